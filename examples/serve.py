"""A service that defends images: ``pip install fastapi uvicorn``, then
``uvicorn examples.serve:app``.

POST the bytes of an image, as ``curl --data-binary @photo.jpg localhost:8000/defend -o out.png``::

    /defend    the defended image, a PNG of the same size and depth with its metadata; how much the
               image looks attacked is in the header X-Attack-Score
    /mask      the localizer's mask of the image as it is, a grey PNG
    /score     {"attack_score": 0.97, "attacked": true}

One ``Defender`` serves all threads. What is no image, or too large, is answered with 4xx and the
reason; MAX_BYTES, MAX_PIXELS, LOCALIZER, WEIGHTS and DEVICE come from the environment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from ansm_fast import Defender, Photograph
from ansm_fast.images.photograph import BadImage
from ansm_fast.images.read import decode_photograph
from ansm_fast.images.write import encode_png

MAX_BYTES = int(os.environ.get("MAX_BYTES", 32 << 20))
MAX_PIXELS = int(os.environ.get("MAX_PIXELS", 40_000_000))

app = FastAPI(title="ansm_fast")
# Each image takes memory by its size: so many are decoded at once, the others wait as bytes.
_slots = threading.Semaphore(os.cpu_count() or 1)
_loading = threading.Lock()


@lru_cache(maxsize=1)
def _loaded() -> Defender:
    return Defender(
        os.environ.get("LOCALIZER"),
        weights=os.environ.get("WEIGHTS"),
        device=os.environ.get("DEVICE", "auto"),
    )


def defender() -> Defender:
    """The one that all requests share, loaded by the first."""
    with _loading:
        return _loaded()


async def _content(request: Request) -> bytes:
    """The body, of which no more than MAX_BYTES are ever held."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise HTTPException(413, f"the image has more than {MAX_BYTES} bytes")
    return bytes(content)


async def _answer(request: Request, answer: Callable[[Photograph], Any]) -> Any:
    content = await _content(request)

    def work() -> Any:
        with _slots:
            try:
                photograph = decode_photograph(content, MAX_PIXELS)
            except BadImage as error:
                reason = f"the image {error}".replace("--max-pixels ", "")
                large = "pixels, more than" in reason
                raise HTTPException(413 if large else 422, reason) from error
            return answer(photograph)

    return await run_in_threadpool(work)


def _png(photograph: Photograph, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_png(photograph), media_type="image/png", headers=headers)


@app.post("/defend")
async def defend(request: Request) -> Response:
    def answer(photograph: Photograph) -> Response:
        defended, score = defender().defend_and_score(photograph)
        return _png(defended, {} if score is None else {"X-Attack-Score": f"{score:.4f}"})

    return await _answer(request, answer)


@app.post("/mask")
async def mask(request: Request) -> Response:
    return await _answer(
        request, lambda photograph: _png(Photograph(defender().mask(photograph)[:, :, None]))
    )


@app.post("/score")
async def score(request: Request) -> dict[str, Any]:
    def answer(photograph: Photograph) -> dict[str, Any]:
        if not defender().ansm.has_attack_score:
            raise HTTPException(404, "this ANSM cannot tell whether an image was attacked")
        found = defender().attack_score(photograph)
        return {"attack_score": found, "attacked": found >= defender().ansm.attack_threshold}

    return await _answer(request, answer)

// The host kernels for NumPy, without torch: float64 arrays in, float64 arrays out.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "channelwise_kl/cpu.h"
#include "dual_mask/cpu.h"
#include "perturbation/cpu.h"

namespace py = pybind11;
using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;
using ansm_fast::ElementType;
using ansm_fast::Field;
namespace host = ansm_fast::ANSM_FAST_ISA;

namespace {

Field field(const Array& array) {
  return {const_cast<double*>(array.data()), ElementType::kFloat64};
}

void check_same(const Array& a, const Array& b) {
  if (a.size() != b.size()) throw py::value_error("the arrays must have the same size");
}

// Rows (channels, pixels); returns (KL of each row, gradient of input, gradient of target).
py::tuple channelwise_kl(const Array& input, const Array& target, double temperature,
                         double alpha) {
  if (input.ndim() != 2) throw py::value_error("input must have shape (channels, pixels)");
  check_same(input, target);
  const auto rows = input.shape(0), pixels = input.shape(1);
  py::array_t<double> kl(rows), to_input({rows, pixels}), to_target({rows, pixels});
  ansm_fast::channelwise_kl::Inputs in;
  in.first = field(input);
  in.second = field(target);
  in.grad_first = {to_input.mutable_data(), ElementType::kFloat64};
  in.grad_second = {to_target.mutable_data(), ElementType::kFloat64};
  in.pixels = pixels;
  in.channels = rows;
  in.inverse_temperature = in.gradient_scale = 1 / temperature;
  in.alpha = alpha;
  host::channelwise_kl::rows_chunk<double>(in, 0, rows, kl.mutable_data());
  return py::make_tuple(kl, to_input, to_target);
}

// Sums of one sample: BCE, probability * mask, probability, mask, number of pixels.
py::tuple dual_mask_sums(const Array& logits, const Array& mask, double pos_weight) {
  check_same(logits, mask);
  ansm_fast::dual_mask::Inputs in;
  in.logits[0] = field(logits);
  in.mask[0] = field(mask);
  in.pos_weight = pos_weight;
  ansm_fast::dual_mask::Sums sums[ansm_fast::dual_mask::kMaxBranches];
  host::dual_mask::forward_chunk<double>(in, 0, logits.size(), sums);
  return py::make_tuple(sums[0].bce, sums[0].overlap, sums[0].probability, sums[0].area,
                        sums[0].count);
}

// clamp(image + clip(perturbation, -eps, eps), 0, 1).
py::array_t<double> clamp_project(const Array& image, const Array& perturbation, double eps) {
  using namespace ansm_fast::perturbation;
  check_same(image, perturbation);
  py::array_t<double> out(image.size());
  const Projection io{
      field(image), field(perturbation), {out.mutable_data(), ElementType::kFloat64}};
  host::perturbation::project_chunk<double>(io, Norm::kLinf, {eps, 0, 0, 1}, {}, 0, image.size());
  return out;
}

}  // namespace

PYBIND11_MODULE(ansm_fast_kernels, m) {
  m.doc() = "Host kernels of ansm_fast on NumPy arrays";
  m.def("channelwise_kl", &channelwise_kl, py::arg("input"), py::arg("target"),
        py::arg("temperature") = 1.0, py::arg("alpha") = 0.0);
  m.def("dual_mask_sums", &dual_mask_sums, py::arg("logits"), py::arg("mask"),
        py::arg("pos_weight") = 1.0);
  m.def("clamp_project", &clamp_project, py::arg("image"), py::arg("perturbation"), py::arg("eps"));
}

"""A CUDA device that is not there, and the steps on it: see `fake_cuda_steps.py`.

torch's CPU build asks two registries about devices: one for guards, which change device and
stream, one for hooks, which say what there is. They are filled before torch is imported, for it
asks once. Autograd, and so a tower, then finds a stream; nothing is ever computed.

python fake_cuda.py FOLDER RULE LAYERS [RULE LAYERS ...]
"""

import ctypes
import importlib.util
import subprocess
import sys
from pathlib import Path

DEVICE = """
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

using c10::Device, c10::DeviceIndex, c10::Stream;

struct Guard : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  static Device only() { return Device(c10::DeviceType::CUDA, 0); }
  static Stream stream() { return Stream(Stream::DEFAULT, only()); }
  Device exchangeDevice(Device) const override { return only(); }
  Device getDevice() const override { return only(); }
  Stream getStream(Device) const noexcept override { return stream(); }
  Stream exchangeStream(Stream) const noexcept override { return stream(); }
  void record(void**, const Stream&, DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
};

struct CUDAHooks : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
};

namespace at { REGISTER_CUDA_HOOKS(CUDAHooks) }
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
"""


def load_device(folder: Path) -> None:
    """Compile and load the device. Raises CalledProcessError or FileNotFoundError."""
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.submodule_search_locations
    root = Path(found.submodule_search_locations[0])
    source, library = folder / "device.cpp", folder / "device.so"
    source.write_text(DEVICE, encoding="utf-8")
    flags = ["-std=c++20", "-shared", "-fPIC", f"-I{root}/include", f"-L{root}/lib"]
    command = ["c++", str(source), *flags, "-lc10", "-ltorch_cpu", "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True)
    ctypes.CDLL(str(root / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library))


if __name__ == "__main__":
    load_device(Path(sys.argv[1]))
    import fake_cuda_steps

    fake_cuda_steps.main(sys.argv[2:])

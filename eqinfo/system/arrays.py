"""Types of arrays, named after their numbers as in numba: I8 to I64 are signed, U8 to U64 unsigned."""

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.unsignedinteger]  # uint16 or uint32, as in token files

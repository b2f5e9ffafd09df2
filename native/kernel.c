/*
 * Files of the kernel's interfaces: ioctls with structures, reads and writes at a place, and what
 * structures need.
 */
#include "addon.h"

#include <sys/ioctl.h>
#include <unistd.h>

static int bytes_of(napi_env env, napi_value array, uint8_t **bytes, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, array, &type, length, (void **)bytes, NULL, NULL) != napi_ok) return -EINVAL;
  return type == napi_uint8_array ? 0 : -EINVAL;
}

/*
 * ioctlBytes(fd, request, bytes): an ioctl whose argument is the address of a structure. The caller
 * vouches that the kernel accesses no more than these bytes.
 */
napi_value vt_ioctl_bytes(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  U32(1, request);
  uint8_t *bytes;
  size_t length;
  if (bytes_of(env, argv[2], &bytes, &length) != 0) return number(env, -EINVAL);
  return answer(env, ioctl(fd, request, bytes));
}

/* pread and pwrite (fd, bytes, offset): the number of bytes */
static napi_value transfer(napi_env env, napi_callback_info info, int writes) {
  ARGS(3);
  I32(0, fd);
  I64(2, offset);
  uint8_t *bytes;
  size_t length;
  if (bytes_of(env, argv[1], &bytes, &length) != 0) return number(env, -EINVAL);
  return answer(env, writes ? pwrite(fd, bytes, length, offset) : pread(fd, bytes, length, offset));
}

napi_value vt_pread(napi_env env, napi_callback_info info) { return transfer(env, info, 0); }

napi_value vt_pwrite(napi_env env, napi_callback_info info) { return transfer(env, info, 1); }

/* addressOf(bytes): the address of the first byte in this process; 0 where there is none */
napi_value vt_address_of(napi_env env, napi_callback_info info) {
  ARGS(1);
  uint8_t *bytes;
  size_t length;
  if (bytes_of(env, argv[0], &bytes, &length) != 0) return number(env, -EINVAL);
  return number(env, length == 0 ? 0 : (int64_t)(uintptr_t)bytes);
}

/* sysconf(name): -1 for a name without a value */
napi_value vt_sysconf(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, name);
  return number(env, sysconf(name));
}

/* CRC32C by the processor's own instruction, where it has one. src/base/crc32c.ts needs none. */
#include "addon.h"

#ifdef __x86_64__
#include <immintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c(const uint8_t *bytes, size_t length, uint32_t sum) {
  uint64_t wide = sum;
  for (; length >= 8; bytes += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  sum = (uint32_t)wide;
  for (; length > 0; bytes++, length--) sum = _mm_crc32_u8(sum, *bytes);
  return sum;
}
#endif

/*
 * crc32c(bytes, from, to, sum): the sum of bytes [from, to), after others whose sum is `sum`;
 * -EOPNOTSUPP on a processor without the instruction
 */
napi_value vt_crc32c(napi_env env, napi_callback_info info) {
  ARGS(4);
#ifdef __x86_64__
  I64(1, from);
  I64(2, to);
  U32(3, sum);
  napi_typedarray_type type;
  size_t length;
  const uint8_t *bytes;
  if (napi_get_typedarray_info(env, argv[0], &type, &length, (void **)&bytes, NULL, NULL) != napi_ok) return number(env, -EINVAL);
  if (type != napi_uint8_array || from < 0 || from > to || (uint64_t)to > length) return number(env, -EINVAL);
  if (!__builtin_cpu_supports("sse4.2")) return number(env, -EOPNOTSUPP);
  return number(env, (uint32_t)~crc32c(bytes + from, (size_t)(to - from), ~sum));
#else
  return number(env, -EOPNOTSUPP);
#endif
}

/*
 * Hashes of pages, to find those that changed: at the speed of memory, by several threads where
 * there is much.
 *
 * The hash is NH (RFC 4418, 5.2.2) with a key of its own for each 32 bits of the page, twice with
 * shifted keys (Toeplitz). Two different pages have the same hash with probability 2^-64, also when
 * an attacker fills them without knowing the key. The hash of a page of zeroes is subtracted, so
 * that it is 0.
 */
#include "addon.h"

#include <pthread.h>
#include <unistd.h>
#ifdef __x86_64__
#include <emmintrin.h>
#endif

enum { PAGE = 4096, WORDS = PAGE / 4, SHIFT = 4, KEY_WORDS = WORDS + SHIFT, THREADS = 8, PAGES_PER_THREAD = 2048 };
/* How far ahead bytes are requested: processors look ahead within a page only. A fifth faster. */
enum { AHEAD = 1024, LINE = 64 };

struct hash {
  uint64_t one, two;
};

static struct hash nh(const uint8_t *page, const uint32_t *key) {
  struct hash sum = {0, 0};
#ifdef __x86_64__
  __m128i one = _mm_setzero_si128(), two = one;
  for (int i = 0; i < WORDS; i += 4) {
    __m128i words = _mm_loadu_si128((const __m128i *)(page + 4 * i));
    if (4 * i % LINE == 0) __builtin_prefetch(page + 4 * i + AHEAD);
    __m128i a = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(key + i)));
    __m128i b = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(key + i + SHIFT)));
    one = _mm_add_epi64(one, _mm_mul_epu32(a, _mm_srli_epi64(a, 32)));
    two = _mm_add_epi64(two, _mm_mul_epu32(b, _mm_srli_epi64(b, 32)));
  }
  uint64_t lanes[4];
  _mm_storeu_si128((__m128i *)lanes, one);
  _mm_storeu_si128((__m128i *)(lanes + 2), two);
  sum.one = lanes[0] + lanes[1];
  sum.two = lanes[2] + lanes[3];
#else
  for (int i = 0; i < WORDS; i += 2) {
    uint32_t words[2];
    memcpy(words, page + 4 * i, 8);
    sum.one += (uint64_t)(uint32_t)(words[0] + key[i]) * (uint32_t)(words[1] + key[i + 1]);
    sum.two += (uint64_t)(uint32_t)(words[0] + key[i + SHIFT]) * (uint32_t)(words[1] + key[i + 1 + SHIFT]);
  }
#endif
  return sum;
}

static struct hash of_zeroes(const uint32_t *key) {
  static const uint8_t zeroes[PAGE];
  return nh(zeroes, key);
}

static struct hash less(struct hash sum, struct hash base) { return (struct hash){sum.one - base.one, sum.two - base.two}; }

/* The memory of a Uint8Array, and its size. */
static int bytes_of(napi_env env, napi_value array, uint8_t **bytes, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, array, &type, length, (void **)bytes, NULL, NULL) != napi_ok) return -EINVAL;
  return type == napi_uint8_array ? 0 : -EINVAL;
}

struct request {
  uint8_t *memory, *other, *hashes, *key;
  size_t memory_length, other_length, hashes_length;
  int64_t at, first, count;
};

/* memory, at, hashes, first, count, key, other: the first arguments of both calls, checked */
static int request_of(napi_env env, const napi_value *argv, struct request *request) {
  size_t key_length;
  if (bytes_of(env, argv[0], &request->memory, &request->memory_length) != 0) return -EINVAL;
  if (napi_get_value_int64(env, argv[1], &request->at) != napi_ok) return -EINVAL;
  if (bytes_of(env, argv[2], &request->hashes, &request->hashes_length) != 0) return -EINVAL;
  if (napi_get_value_int64(env, argv[3], &request->first) != napi_ok) return -EINVAL;
  if (napi_get_value_int64(env, argv[4], &request->count) != napi_ok) return -EINVAL;
  if (bytes_of(env, argv[5], &request->key, &key_length) != 0 || key_length < KEY_WORDS * 4) return -EINVAL;
  if (bytes_of(env, argv[6], &request->other, &request->other_length) != 0) return -EINVAL;
  int64_t most = INT64_C(1) << 40;
  if (request->at < 0 || request->first < 0 || request->count < 0 || request->count > most || request->first > most) return -EINVAL;
  if ((uint64_t)request->at > request->memory_length || (uint64_t)request->count * PAGE > request->memory_length - (uint64_t)request->at) return -EINVAL;
  return (uint64_t)(request->first + request->count) * sizeof(struct hash) > request->hashes_length ? -EINVAL : 0;
}

struct part {
  const uint8_t *memory, *hashes, *key;
  uint8_t *bitmap;
  int64_t first, count, changed;
  struct hash zero;
  pthread_t thread;
  int started;
};

static void *scan(void *argument) {
  struct part *part = argument;
  for (int64_t i = 0; i < part->count; i++) {
    struct hash now = less(nh(part->memory + i * PAGE, (const uint32_t *)part->key), part->zero), then;
    int64_t page = part->first + i;
    memcpy(&then, part->hashes + page * (int64_t)sizeof then, sizeof then);
    if (now.one == then.one && now.two == then.two) continue;
    part->bitmap[page >> 3] |= (uint8_t)(1 << (page & 7));
    part->changed++;
  }
  return NULL;
}

/*
 * pagesScan(memory, at, hashes, first, count, key, bitmap): compare the pages from byte `at` on
 * with the hashes from number `first` on, and set the bit of each page that differs. The result is
 * how many do. `first` is a multiple of 8: threads share no byte of the bitmap.
 */
napi_value vt_pages_scan(napi_env env, napi_callback_info info) {
  ARGS(7);
  struct request request;
  if (request_of(env, argv, &request) != 0 || (request.first & 7) != 0) return number(env, -EINVAL);
  if ((uint64_t)(request.first + request.count + 7) / 8 > request.other_length) return number(env, -EINVAL);
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  int64_t threads = request.count / PAGES_PER_THREAD;
  if (threads > processors) threads = processors;
  if (threads > THREADS) threads = THREADS;
  if (threads < 1) threads = 1;
  int64_t share = (request.count / threads + 8) / 8 * 8, done = 0, changed = 0;
  struct part parts[THREADS];
  struct hash zero = of_zeroes((const uint32_t *)request.key);
  int used = 0;
  for (; done < request.count; done += share, used++) {
    parts[used] = (struct part){.memory = request.memory + request.at + done * PAGE,
                                .hashes = request.hashes,
                                .key = request.key,
                                .bitmap = request.other,
                                .first = request.first + done,
                                .count = request.count - done < share ? request.count - done : share,
                                .zero = zero};
  }
  /* This thread works on the first part, and on each part whose thread cannot be started. */
  for (int i = 1; i < used; i++) parts[i].started = pthread_create(&parts[i].thread, NULL, scan, &parts[i]) == 0;
  for (int i = 0; i < used; i++) {
    if (i == 0 || !parts[i].started) scan(&parts[i]);
  }
  for (int i = 0; i < used; i++) {
    if (parts[i].started) pthread_join(parts[i].thread, NULL);
    changed += parts[i].changed;
  }
  return number(env, changed);
}

/*
 * pagesTake(memory, at, hashes, first, count, key, into): copy the pages from byte `at` on to the
 * beginning of `into`, and note the hashes of the copies. The copies are what a peer gets, even
 * when the pages change meanwhile. The result is how many of the copies are not zero.
 */
napi_value vt_pages_take(napi_env env, napi_callback_info info) {
  ARGS(7);
  struct request request;
  if (request_of(env, argv, &request) != 0) return number(env, -EINVAL);
  if ((uint64_t)request.count * PAGE > request.other_length) return number(env, -EINVAL);
  struct hash zero = of_zeroes((const uint32_t *)request.key);
  int64_t filled = 0;
  for (int64_t i = 0; i < request.count; i++) {
    uint8_t *copy = request.other + i * PAGE;
    memcpy(copy, request.memory + request.at + i * PAGE, PAGE);
    struct hash now = less(nh(copy, (const uint32_t *)request.key), zero);
    memcpy(request.hashes + (request.first + i) * (int64_t)sizeof now, &now, sizeof now);
    filled += (now.one | now.two) != 0;
  }
  return number(env, filled);
}

/*
 * vfio-ts: the door to Linux. One function per system call, each answering what the call answered or -errno; no policy, no defaults, no
 * retries: those are in src/sys. Nothing here throws, prints or exits. A wrong argument type is -EINVAL.
 *
 * All state hangs on the environment (napi_set_instance_data), so that the addon loads in worker threads too.
 * libuv is reached by hand-written declarations: uv.h is not part of the Node-API headers. Only functions of its stable ABI are used, and
 * handles are allocated with uv_handle_size().
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <node_api.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* libuv 1.x, docs.libuv.org: poll.html, handle.html */
typedef struct uv_handle_s uv_handle_t;
typedef struct uv_poll_s uv_poll_t;
typedef struct uv_loop_s uv_loop_t;
enum { VT_UV_POLL = 8, VT_UV_READABLE = 1 };
extern size_t uv_handle_size(int type);
extern void uv_handle_set_data(uv_handle_t *handle, void *data);
extern void *uv_handle_get_data(const uv_handle_t *handle);
extern int uv_poll_init(uv_loop_t *loop, uv_poll_t *handle, int fd);
extern int uv_poll_start(uv_poll_t *handle, int events, void (*callback)(uv_poll_t *, int, int));
extern void uv_close(uv_handle_t *handle, void (*callback)(uv_handle_t *));
extern void uv_ref(uv_handle_t *handle);
extern void uv_unref(uv_handle_t *handle);

/* A live mapping; in a list, so that an environment that ends without munmap (a terminated worker) gives its address space back. */
struct mapping {
  struct mapping *next, **link;
  void *data;
  size_t length;
};

/* A descriptor being watched. Freed by libuv's close callback, never before. */
struct watcher {
  uv_poll_t *handle;
  napi_env env;
  napi_ref callback;
  napi_async_cleanup_hook_handle hook;
  int fd;
  int closing;
};

struct state {
  struct mapping *mappings;
  struct watcher **watchers; /* by descriptor: libuv allows one handle per descriptor and loop */
  int watcher_slots;
};

/* Marks the ArrayBuffers that are ours, so that munmap can never be talked into unmapping someone else's memory. */
static const napi_type_tag mapping_tag = {0x7666696f2d74735fULL, 0x6d617070696e6700ULL};

static struct state *state_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

static napi_value number(napi_env env, int64_t value) {
  napi_value result = NULL;
  napi_create_int64(env, value, &result);
  return result;
}

/* What a system call returned, with errno folded in. */
static napi_value answer(napi_env env, int64_t returned) { return number(env, returned < 0 ? -errno : returned); }

#define ARGS(n)                                                                                                                                \
  napi_value argv[n];                                                                                                                          \
  size_t argc = n;                                                                                                                             \
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc < n) return number(env, -EINVAL)
#define I32(i, name)                                                                                                                           \
  int32_t name;                                                                                                                                \
  if (napi_get_value_int32(env, argv[i], &name) != napi_ok) return number(env, -EINVAL)
#define U32(i, name)                                                                                                                           \
  uint32_t name;                                                                                                                               \
  if (napi_get_value_uint32(env, argv[i], &name) != napi_ok) return number(env, -EINVAL)
#define I64(i, name)                                                                                                                           \
  int64_t name;                                                                                                                                \
  if (napi_get_value_int64(env, argv[i], &name) != napi_ok) return number(env, -EINVAL)

/* close(fd) */
static napi_value vt_close(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  return answer(env, close(fd));
}

/* fcntl(fd, command, argument): F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS */
static napi_value vt_fcntl(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I32(1, command);
  I32(2, argument);
  return answer(env, fcntl(fd, command, argument));
}

/* poll({fd, events}, timeoutMs): revents, 0 when the time is up */
static napi_value vt_poll(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I32(1, events);
  I32(2, timeout_ms);
  struct pollfd one = {.fd = fd, .events = (short)events};
  int ready = poll(&one, 1, timeout_ms);
  return answer(env, ready > 0 ? one.revents : ready);
}

/* eventfd(initial, flags) */
static napi_value vt_eventfd(napi_env env, napi_callback_info info) {
  ARGS(2);
  U32(0, initial);
  I32(1, flags);
  return answer(env, eventfd(initial, flags));
}

/* read of an eventfd: its counter as a bigint, or -errno as a number */
static napi_value vt_eventfd_read(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  uint64_t value;
  if (read(fd, &value, sizeof value) < 0) return number(env, -errno);
  napi_value result = NULL;
  napi_create_bigint_uint64(env, value, &result);
  return result;
}

/* write of an eventfd: low and high half of what is added, as numbers so that a signal makes no bigint */
static napi_value vt_eventfd_write(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  U32(1, low);
  U32(2, high);
  uint64_t value = (uint64_t)high << 32 | low;
  return answer(env, write(fd, &value, sizeof value));
}

/* memfd_create(name, flags) */
static napi_value vt_memfd_create(napi_env env, napi_callback_info info) {
  ARGS(2);
  char name[64];
  if (napi_get_value_string_utf8(env, argv[0], name, sizeof name, NULL) != napi_ok) return number(env, -EINVAL);
  U32(1, flags);
  return answer(env, memfd_create(name, flags));
}

/* ftruncate(fd, length) */
static napi_value vt_ftruncate(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I64(1, length);
  return answer(env, ftruncate(fd, length));
}

static void mapping_free(struct mapping *mapping) {
  munmap(mapping->data, mapping->length);
  *mapping->link = mapping->next;
  if (mapping->next != NULL) mapping->next->link = mapping->link;
  free(mapping);
}

/*
 * mmap(fd, offset, length): an ArrayBuffer over a shared mapping, or -errno. Always readable and writable: a store into an ArrayBuffer cannot
 * fail, so a read-only mapping would be a crash in waiting. There is no finalizer: munmap is called by the owner, never by the collector.
 */
static napi_value vt_mmap(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I64(1, offset);
  I64(2, length);
  if (length <= 0) return number(env, -EINVAL);
  struct mapping *mapping = malloc(sizeof *mapping);
  if (mapping == NULL) return number(env, -ENOMEM);
  void *data = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (data == MAP_FAILED) {
    int error = errno;
    free(mapping);
    return number(env, -error);
  }
  struct state *state = state_of(env);
  *mapping = (struct mapping){.next = state->mappings, .link = &state->mappings, .data = data, .length = (size_t)length};
  if (mapping->next != NULL) mapping->next->link = &mapping->next;
  state->mappings = mapping;

  napi_value buffer;
  napi_status status = napi_create_external_arraybuffer(env, data, (size_t)length, NULL, NULL, &buffer);
  if (status == napi_ok) {
    status = napi_type_tag_object(env, buffer, &mapping_tag);
    if (status == napi_ok) status = napi_wrap(env, buffer, mapping, NULL, NULL, NULL);
    if (status != napi_ok) napi_detach_arraybuffer(env, buffer);
  }
  if (status != napi_ok) {
    napi_value exception;
    napi_get_and_clear_last_exception(env, &exception);
    mapping_free(mapping);
    return number(env, -ENOMEM);
  }
  return buffer;
}

/* munmap(buffer): detaches the ArrayBuffer first, so that every view of it is empty before the pages go. -EINVAL for one that is not ours. */
static napi_value vt_munmap(napi_env env, napi_callback_info info) {
  ARGS(1);
  bool ours = false;
  void *mapping;
  if (napi_is_arraybuffer(env, argv[0], &ours) != napi_ok || !ours) return number(env, -EINVAL);
  if (napi_check_object_type_tag(env, argv[0], &mapping_tag, &ours) != napi_ok || !ours) return number(env, -EINVAL);
  if (napi_unwrap(env, argv[0], &mapping) != napi_ok) return number(env, -EINVAL);
  if (napi_detach_arraybuffer(env, argv[0]) != napi_ok) return number(env, -EINVAL);
  napi_remove_wrap(env, argv[0], NULL);
  mapping_free(mapping);
  return number(env, 0);
}

static struct watcher **watcher_slot(struct state *state, int fd) {
  return fd >= 0 && fd < state->watcher_slots && state->watchers[fd] != NULL ? &state->watchers[fd] : NULL;
}

static void on_closed(uv_handle_t *handle) {
  struct watcher *watcher = uv_handle_get_data(handle);
  napi_remove_async_cleanup_hook(watcher->hook);
  free(watcher->handle);
  free(watcher);
}

/* libuv forgets the descriptor at once, so that it may be closed right after; the memory goes when the close callback has run. */
static void watcher_close(struct watcher *watcher) {
  if (watcher->closing) return;
  watcher->closing = 1;
  state_of(watcher->env)->watchers[watcher->fd] = NULL;
  napi_delete_reference(watcher->env, watcher->callback);
  uv_close((uv_handle_t *)watcher->handle, on_closed);
}

/* The environment ends with the watcher alive: a handle left on the loop would abort the worker. */
static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  watcher_close(data);
}

static void on_readable(uv_poll_t *handle, int status, int events) {
  (void)status;
  (void)events;
  struct watcher *watcher = uv_handle_get_data((uv_handle_t *)handle);
  napi_env env = watcher->env;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value callback, receiver;
  if (napi_get_reference_value(env, watcher->callback, &callback) == napi_ok && callback != NULL && napi_get_global(env, &receiver) == napi_ok &&
      napi_make_callback(env, NULL, receiver, callback, 0, NULL, NULL) == napi_pending_exception) {
    napi_value error;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

/* watchStart(fd, callback): call `callback` from the event loop while the descriptor is readable. The loop stays alive for it. -EEXIST twice. */
static napi_value vt_watch_start(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  napi_valuetype type;
  if (napi_typeof(env, argv[1], &type) != napi_ok || type != napi_function) return number(env, -EINVAL);
  struct state *state = state_of(env);
  if (fd < 0) return number(env, -EBADF);
  if (watcher_slot(state, fd) != NULL) return number(env, -EEXIST);
  if (fd >= state->watcher_slots) {
    int slots = fd + 64;
    struct watcher **grown = realloc(state->watchers, (size_t)slots * sizeof *grown);
    if (grown == NULL) return number(env, -ENOMEM);
    memset(grown + state->watcher_slots, 0, (size_t)(slots - state->watcher_slots) * sizeof *grown);
    state->watchers = grown;
    state->watcher_slots = slots;
  }
  uv_loop_t *loop;
  if (napi_get_uv_event_loop(env, (struct uv_loop_s **)&loop) != napi_ok) return number(env, -EIO);

  struct watcher *watcher = calloc(1, sizeof *watcher);
  uv_poll_t *handle = calloc(1, uv_handle_size(VT_UV_POLL));
  int error = watcher == NULL || handle == NULL ? -ENOMEM : 0;
  if (error == 0 && napi_create_reference(env, argv[1], 1, &watcher->callback) != napi_ok) error = -EINVAL;
  if (error == 0) {
    watcher->env = env;
    watcher->fd = fd;
    watcher->handle = handle;
    error = uv_poll_init(loop, handle, fd);
    if (error != 0) napi_delete_reference(env, watcher->callback);
  }
  if (error != 0) {
    free(watcher);
    free(handle);
    return number(env, error);
  }
  /* From here on the handle is libuv's until it has been closed. */
  uv_handle_set_data((uv_handle_t *)handle, watcher);
  state->watchers[fd] = watcher;
  if (napi_add_async_cleanup_hook(env, on_environment_end, watcher, &watcher->hook) != napi_ok) error = -ENOMEM;
  if (error == 0) error = uv_poll_start(handle, VT_UV_READABLE, on_readable);
  if (error != 0) watcher_close(watcher);
  return number(env, error);
}

/* watchStop(fd): no call comes after this returns, and the descriptor may be closed. */
static napi_value vt_watch_stop(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  struct watcher **slot = watcher_slot(state_of(env), fd);
  if (slot == NULL) return number(env, -ENOENT);
  watcher_close(*slot);
  return number(env, 0);
}

/* watchRef(fd, on): whether this watcher keeps the event loop alive. */
static napi_value vt_watch_ref(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  bool on;
  if (napi_get_value_bool(env, argv[1], &on) != napi_ok) return number(env, -EINVAL);
  struct watcher **slot = watcher_slot(state_of(env), fd);
  if (slot == NULL) return number(env, -ENOENT);
  if (on) {
    uv_ref((uv_handle_t *)(*slot)->handle);
  } else {
    uv_unref((uv_handle_t *)(*slot)->handle);
  }
  return number(env, 0);
}

static const struct {
  const char *name;
  napi_callback function;
} functions[] = {
    {"close", vt_close},
    {"fcntl", vt_fcntl},
    {"poll", vt_poll},
    {"eventfd", vt_eventfd},
    {"eventfdRead", vt_eventfd_read},
    {"eventfdWrite", vt_eventfd_write},
    {"memfdCreate", vt_memfd_create},
    {"ftruncate", vt_ftruncate},
    {"mmap", vt_mmap},
    {"munmap", vt_munmap},
    {"watchStart", vt_watch_start},
    {"watchStop", vt_watch_stop},
    {"watchRef", vt_watch_ref},
};

/* Watchers are gone by now: their hooks ran before. */
static void state_free(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct state *state = data;
  while (state->mappings != NULL) mapping_free(state->mappings);
  free(state->watchers);
  free(state);
}

NAPI_MODULE_INIT() {
  struct state *state = calloc(1, sizeof *state);
  if (state == NULL) return NULL;
  if (napi_set_instance_data(env, state, state_free, NULL) != napi_ok) {
    free(state);
    return NULL;
  }
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value function;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok) {
      return NULL;
    }
  }
  return exports;
}

/*
 * Waiting for descriptors from the event loop. Hand-written declarations reach libuv: uv.h is not
 * part of the Node-API headers. They use functions of its stable ABI only, and handles are
 * allocated with uv_handle_size().
 */
#include "addon.h"

#include <fcntl.h>
#include <poll.h>

/* libuv 1.x, docs.libuv.org: poll.html, handle.html, loop.html */
typedef struct uv_handle_s uv_handle_t;
typedef struct uv_poll_s uv_poll_t;
typedef struct uv_loop_s uv_loop_t;
enum { VT_UV_POLL = 8, VT_UV_READABLE = 1, VT_UV_WRITABLE = 2 };
extern size_t uv_handle_size(int type);
extern void uv_handle_set_data(uv_handle_t *handle, void *data);
extern void *uv_handle_get_data(const uv_handle_t *handle);
extern int uv_poll_init(uv_loop_t *loop, uv_poll_t *handle, int fd);
extern int uv_poll_start(uv_poll_t *handle, int events, void (*callback)(uv_poll_t *, int, int));
extern void uv_close(uv_handle_t *handle, void (*callback)(uv_handle_t *));
extern void uv_ref(uv_handle_t *handle);
extern void uv_unref(uv_handle_t *handle);
extern int uv_backend_fd(const uv_loop_t *loop);
extern int uv_backend_timeout(const uv_loop_t *loop);
extern void uv_update_time(uv_loop_t *loop);

/* A descriptor being watched. Freed by libuv's close callback, never before. */
struct watcher {
  uv_poll_t *handle;
  uv_loop_t *loop;
  napi_env env;
  napi_ref callbacks[2]; /* readable, writable */
  napi_async_cleanup_hook_handle hook;
  int fd;
  int events;
  int closing;
  int spins;
  struct spin spin;
};

static struct watcher **watcher_slot(struct state *state, int fd) {
  return fd >= 0 && fd < state->watcher_slots && state->watchers[fd] != NULL ? &state->watchers[fd] : NULL;
}

static void on_closed(uv_handle_t *handle) {
  struct watcher *watcher = uv_handle_get_data(handle);
  napi_remove_async_cleanup_hook(watcher->hook);
  free(watcher->handle);
  free(watcher);
}

/*
 * libuv forgets the descriptor at once, so that it may be closed right after; the memory goes after
 * the close callback.
 */
static void watcher_close(struct watcher *watcher) {
  if (watcher->closing) return;
  watcher->closing = 1;
  watcher->events = 0;
  state_of(watcher->env)->watchers[watcher->fd] = NULL;
  uv_close((uv_handle_t *)watcher->handle, on_closed);
}

/* No event of it is watched any more. */
static void watcher_end(struct watcher *watcher) {
  for (int i = 0; i < 2; i++) {
    if (watcher->callbacks[i] != NULL) napi_delete_reference(watcher->env, watcher->callbacks[i]);
  }
  watcher_close(watcher);
}

/*
 * The environment ends with the watcher alive: a handle left on the loop would abort the worker.
 * The references stay until the environment takes them, which is after `state_free`: the callbacks
 * keep the memory that threads of file.c write into.
 */
static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  watcher_close(data);
}

/*
 * One call into JavaScript, microtasks included. The result: it returned true, and the watcher
 * still wants calls.
 */
static int watcher_call(struct watcher *watcher, int event) {
  napi_env env = watcher->env;
  napi_handle_scope scope;
  bool again = false;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return 0;
  napi_value callback, receiver, result;
  if (napi_get_reference_value(env, watcher->callbacks[event - 1], &callback) == napi_ok && callback != NULL &&
      napi_get_global(env, &receiver) == napi_ok) {
    napi_status status = napi_make_callback(env, NULL, receiver, callback, 0, NULL, &result);
    if (status == napi_pending_exception) {
      napi_value error;
      if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    } else if (status != napi_ok || napi_get_value_bool(env, result, &again) != napi_ok) {
      again = false;
    }
  }
  napi_close_handle_scope(env, scope);
  return again && (watcher->events & event) != 0;
}

/*
 * Wait for the next readiness right here instead of returning to the event loop. The loop loses no
 * time: it gets its turn as soon as it has something to do and this descriptor has not (poll says
 * so), before a timer is due or anything is queued (uv_backend_timeout is 0 then, also while libuv
 * has not added a new descriptor to epoll), and after STICKY_CALLS calls or STICKY_NS without an
 * idle moment. The readiness of its epoll descriptor is only read, never taken: libuv may hold
 * edge-triggered entries there.
 */
enum { STICKY_CALLS = 256, STICKY_NS = 1000000, STICKY_IDLE_NS = 20000 };

static void watcher_stick(struct watcher *watcher) {
  struct pollfd ready[2] = {{.fd = watcher->fd, .events = POLLIN}, {.fd = uv_backend_fd(watcher->loop), .events = POLLIN}};
  int64_t turn = now_ns();
  for (int calls = 0; calls < STICKY_CALLS; calls++) {
    uv_update_time(watcher->loop);
    int timeout = uv_backend_timeout(watcher->loop);
    if (timeout == 0) return;
    int64_t before = now_ns();
    if (before - turn > STICKY_NS) return;
    if ((watcher->spins ? spin_poll(&watcher->spin, ready, 2, timeout) : poll(ready, 2, timeout)) <= 0 || ready[0].revents == 0) return;
    int64_t after = now_ns();
    if (after - before > STICKY_IDLE_NS) turn = after; /* the loop has not had to wait until now */
    if (!watcher_call(watcher, VT_UV_READABLE)) return;
  }
}

static void on_event(uv_poll_t *handle, int status, int events) {
  struct watcher *watcher = uv_handle_get_data((uv_handle_t *)handle);
  /*
   * An error on the descriptor, such as a connection reset: libuv has stopped polling. The callback
   * finds the error by reading.
   */
  if (status < 0) events = VT_UV_READABLE | VT_UV_WRITABLE;
  if ((events & watcher->events & VT_UV_WRITABLE) != 0) watcher_call(watcher, VT_UV_WRITABLE);
  if ((events & watcher->events & VT_UV_READABLE) != 0 && watcher_call(watcher, VT_UV_READABLE)) watcher_stick(watcher);
  if (status < 0 && !watcher->closing) uv_poll_start(handle, watcher->events, on_event);
}

/* A watcher for the table; no event of it is watched yet. */
static int watcher_new(napi_env env, struct state *state, int fd, struct watcher **made) {
  if (fcntl(fd, F_GETFD) < 0) return -errno; /* before the table grows to it */
  if (fd >= state->watcher_slots) {
    int slots = fd + 64;
    struct watcher **grown = realloc(state->watchers, (size_t)slots * sizeof *grown);
    if (grown == NULL) return -ENOMEM;
    memset(grown + state->watcher_slots, 0, (size_t)(slots - state->watcher_slots) * sizeof *grown);
    state->watchers = grown;
    state->watcher_slots = slots;
  }
  uv_loop_t *loop;
  if (napi_get_uv_event_loop(env, (struct uv_loop_s **)&loop) != napi_ok) return -EIO;
  struct watcher *watcher = calloc(1, sizeof *watcher);
  uv_poll_t *handle = calloc(1, uv_handle_size(VT_UV_POLL));
  int error = watcher == NULL || handle == NULL ? -ENOMEM : uv_poll_init(loop, handle, fd);
  if (error != 0) {
    free(watcher);
    free(handle);
    return error;
  }
  /* From here on the handle is libuv's until it has been closed. */
  *watcher = (struct watcher){.handle = handle, .loop = loop, .env = env, .fd = fd};
  uv_handle_set_data((uv_handle_t *)handle, watcher);
  state->watchers[fd] = watcher;
  *made = watcher;
  if (napi_add_async_cleanup_hook(env, on_environment_end, watcher, &watcher->hook) == napi_ok) return 0;
  watcher_end(watcher);
  return -ENOMEM;
}

/*
 * watchStart(fd, event, callback, spins): call `callback` from the event loop while the descriptor
 * is readable (1) or writable (2). A callback that returns true for "readable" is called again as
 * described above; with `spins` the wait for that call is spin.c's. The loop stays alive for it.
 * -EEXIST when the event is watched already, -EPERM for files, which are always ready. libuv makes
 * the descriptor non-blocking.
 */
napi_value vt_watch_start(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I32(1, event);
  OPTIONAL_FLAG(3, spins);
  napi_valuetype type;
  if (napi_typeof(env, argv[2], &type) != napi_ok || type != napi_function) return number(env, -EINVAL);
  if (event != VT_UV_READABLE && event != VT_UV_WRITABLE) return number(env, -EINVAL);
  if (fd < 0) return number(env, -EBADF);
  struct state *state = state_of(env);
  struct watcher **slot = watcher_slot(state, fd), *watcher = slot == NULL ? NULL : *slot;
  if (watcher != NULL && (watcher->events & event) != 0) return number(env, -EEXIST);
  int error = watcher == NULL ? watcher_new(env, state, fd, &watcher) : 0;
  if (error != 0) return number(env, error);
  if (napi_create_reference(env, argv[2], 1, &watcher->callbacks[event - 1]) != napi_ok) error = -ENOMEM;
  if (error == 0) error = uv_poll_start(watcher->handle, watcher->events | event, on_event);
  if (error == 0) {
    if (event == VT_UV_READABLE) watcher->spins = spins;
    watcher->events |= event;
  } else if (watcher->events == 0) {
    watcher_end(watcher);
  } else if (watcher->callbacks[event - 1] != NULL) {
    napi_delete_reference(env, watcher->callbacks[event - 1]);
    watcher->callbacks[event - 1] = NULL;
  }
  return number(env, error);
}

/*
 * watchStop(fd, event): no call comes after this returns. Once neither event is watched, the
 * descriptor may be closed.
 */
napi_value vt_watch_stop(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, event);
  struct watcher **slot = watcher_slot(state_of(env), fd);
  if (slot == NULL || (event != VT_UV_READABLE && event != VT_UV_WRITABLE)) return number(env, slot == NULL ? -ENOENT : -EINVAL);
  struct watcher *watcher = *slot;
  if ((watcher->events & event) == 0) return number(env, -ENOENT);
  if (watcher->events == event) {
    watcher_end(watcher);
    return number(env, 0);
  }
  watcher->events &= ~event;
  napi_delete_reference(env, watcher->callbacks[event - 1]);
  watcher->callbacks[event - 1] = NULL;
  return number(env, uv_poll_start(watcher->handle, watcher->events, on_event));
}

/* watchRef(fd, on): whether this watcher keeps the event loop alive. */
napi_value vt_watch_ref(napi_env env, napi_callback_info info) {
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

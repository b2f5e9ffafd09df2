/*
 * Waiting for descriptors from the event loop. Hand-written declarations reach libuv: uv.h is not
 * part of the Node-API headers. They use functions of its stable ABI only, and handles are
 * allocated with uv_handle_size().
 */
#include "watch.h"

#include <fcntl.h>

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
  turns_forget(watcher);
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
 * One call of a function without arguments, microtasks included. The result: it returned true.
 */
bool call_back(napi_env env, napi_ref reference) {
  napi_handle_scope scope;
  bool answered = false;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
  napi_value callback, receiver, result;
  if (napi_get_reference_value(env, reference, &callback) == napi_ok && callback != NULL && napi_get_global(env, &receiver) == napi_ok) {
    napi_status status = napi_make_callback(env, NULL, receiver, callback, 0, NULL, &result);
    if (status == napi_pending_exception) {
      napi_value error;
      if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    } else if (status != napi_ok || napi_get_value_bool(env, result, &answered) != napi_ok) {
      answered = false;
    }
  }
  napi_close_handle_scope(env, scope);
  return answered;
}

/* One call into JavaScript. The result: it returned true, and the watcher still wants calls. */
int watcher_call(struct watcher *watcher, int event) {
  bool again = call_back(watcher->env, watcher->callbacks[event - 1]);
  return again && (watcher->events & event) != 0;
}

void watcher_event(uv_poll_t *handle, int status, int events) {
  struct watcher *watcher = uv_handle_get_data((uv_handle_t *)handle);
  /*
   * An error on the descriptor, such as a connection reset: libuv has stopped polling. The callback
   * finds the error by reading.
   */
  if (status < 0) events = VT_UV_READABLE | VT_UV_WRITABLE;
  if ((events & watcher->events & VT_UV_WRITABLE) != 0) watcher_call(watcher, VT_UV_WRITABLE);
  if ((events & watcher->events & VT_UV_READABLE) != 0) {
    if (watcher->sticks) {
      turns_begin(watcher);
    } else {
      watcher->sticks = watcher_call(watcher, VT_UV_READABLE);
    }
  }
  if (status < 0 && !watcher->closing) uv_poll_start(handle, watcher->events, watcher_event);
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
 * is readable (1) or writable (2). A callback that returns true for "readable" is called again
 * without the event loop in between (turns.c); with `spins` the wait for that call is spin.c's. The
 * loop stays alive for it. -EEXIST when the event is watched already, -EPERM for files, which are
 * always ready. libuv makes the descriptor non-blocking.
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
  if (error == 0) error = uv_poll_start(watcher->handle, watcher->events | event, watcher_event);
  if (error == 0) {
    if (event == VT_UV_READABLE) watcher->spins = spins;
    watcher->events |= event;
    turns_forget(watcher);
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
  turns_forget(watcher);
  napi_delete_reference(env, watcher->callbacks[event - 1]);
  watcher->callbacks[event - 1] = NULL;
  return number(env, uv_poll_start(watcher->handle, watcher->events, watcher_event));
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

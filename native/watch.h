/* Shared by watch.c and turns.c: libuv's functions, and a descriptor that is watched. */
#pragma once
#include "addon.h"

/* libuv 1.x, docs.libuv.org: poll.html, check.html, handle.html, loop.html */
typedef struct uv_handle_s uv_handle_t;
typedef struct uv_poll_s uv_poll_t;
typedef struct uv_check_s uv_check_t;
typedef struct uv_signal_s uv_signal_t;
typedef struct uv_loop_s uv_loop_t;
enum { VT_UV_CHECK = 2, VT_UV_POLL = 8, VT_UV_SIGNAL = 16, VT_UV_READABLE = 1, VT_UV_WRITABLE = 2 };
extern size_t uv_handle_size(int type);
extern void uv_handle_set_data(uv_handle_t *handle, void *data);
extern void *uv_handle_get_data(const uv_handle_t *handle);
extern int uv_poll_init(uv_loop_t *loop, uv_poll_t *handle, int fd);
extern int uv_poll_start(uv_poll_t *handle, int events, void (*callback)(uv_poll_t *, int, int));
extern int uv_poll_stop(uv_poll_t *handle);
extern int uv_check_init(uv_loop_t *loop, uv_check_t *handle);
extern int uv_check_start(uv_check_t *handle, void (*callback)(uv_check_t *));
extern int uv_check_stop(uv_check_t *handle);
extern int uv_signal_init(uv_loop_t *loop, uv_signal_t *handle);
extern int uv_signal_start(uv_signal_t *handle, void (*callback)(uv_signal_t *, int), int signum);
extern void uv_close(uv_handle_t *handle, void (*callback)(uv_handle_t *));
extern void uv_ref(uv_handle_t *handle);
extern void uv_unref(uv_handle_t *handle);
extern int uv_has_ref(const uv_handle_t *handle);
extern int uv_backend_fd(const uv_loop_t *loop);
extern int uv_backend_timeout(const uv_loop_t *loop);
extern void uv_update_time(uv_loop_t *loop);

/*
 * A descriptor being watched. Freed by libuv's close callback, never before: until the event loop
 * goes on, a pointer to it is good.
 */
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
  int sticks; /* its callback wants to be called again without the event loop */
  int listed; /* in the epoll instance of turns.c */
  int taken;  /* from libuv, by turns.c */
};

/* watch.c */
bool call_back(napi_env env, napi_ref reference);
int watcher_call(struct watcher *watcher, int event);
void watcher_event(uv_poll_t *handle, int status, int events);

/* turns.c */
void turns_begin(struct watcher *watcher);
void turns_forget(struct watcher *watcher);

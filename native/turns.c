/*
 * Turns of the clients of one thread, without the event loop in between. A return to the event loop
 * costs as much as a message, so the thread waits for the next message of any of its clients right
 * here, in an epoll instance of its own, which also has libuv's epoll descriptor. libuv does not
 * watch the clients' descriptors meanwhile: its descriptor is readable only when something else is
 * ready.
 *
 * Who waits for how long: a round calls each client that is ready once. A client's callback returns
 * when others wait (`watchOthers`), after 20 us of its own messages or the message that it is at
 * (vfio-user/server/channel.ts). So a client waits for 20 us and one message of each client that
 * is ready with it. The event loop gets its turn as soon as it has something to do: in the round in
 * which its descriptor is ready, before a timer is due or anything is queued (uv_backend_timeout is
 * 0 then), and after ROUNDS_NS without an idle moment.
 *
 * The readiness of libuv's descriptor is only read, never taken: libuv may hold edge-triggered
 * entries there.
 */
#include "watch.h"

#include <sys/epoll.h>
#include <unistd.h>

/*
 * So many descriptors are taken from libuv at one time, since each costs two system calls when the
 * event loop has its turn. libuv goes on with the others.
 */
enum { TAKEN_MAX = 16, READY_MAX = TAKEN_MAX + 1, IDLE_NS = 20000 };
enum { ROUNDS_NS = 10000000 };

struct turns {
  int epoll_fd; /* -1 while no descriptor is listed in it */
  int listed;
  napi_env env;
  uv_loop_t *loop;
  /* Active while descriptors are taken from libuv: a loop without active handles would end. */
  uv_check_t *keeper;
  napi_async_cleanup_hook_handle hook;
  struct watcher *taken[TAKEN_MAX];
  int taken_count;
  int running;
  struct spin spin;
};

static void nothing(uv_check_t *handle) { (void)handle; }

static void on_keeper_closed(uv_handle_t *handle) {
  struct turns *turns = uv_handle_get_data(handle);
  napi_remove_async_cleanup_hook(turns->hook);
  if (turns->epoll_fd >= 0) close(turns->epoll_fd);
  free(turns->keeper);
  free(turns);
}

static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  struct turns *turns = data;
  state_of(turns->env)->turns = NULL;
  uv_close((uv_handle_t *)turns->keeper, on_keeper_closed);
}

static struct turns *turns_new(napi_env env, uv_loop_t *loop) {
  struct turns *turns = calloc(1, sizeof *turns);
  uv_check_t *keeper = calloc(1, uv_handle_size(VT_UV_CHECK));
  if (turns == NULL || keeper == NULL || uv_check_init(loop, keeper) != 0) {
    free(turns);
    free(keeper);
    return NULL;
  }
  /* From here on the handle is libuv's until it has been closed. */
  *turns = (struct turns){.epoll_fd = -1, .env = env, .loop = loop, .keeper = keeper};
  uv_handle_set_data((uv_handle_t *)keeper, turns);
  if (napi_add_async_cleanup_hook(env, on_environment_end, turns, &turns->hook) == napi_ok) return turns;
  uv_close((uv_handle_t *)keeper, on_keeper_closed);
  return NULL;
}

/* The keeper keeps the loop alive where one of the descriptors would. */
static void keep(struct turns *turns) {
  int keeps = 0;
  for (int i = 0; i < turns->taken_count; i++) keeps |= uv_has_ref((uv_handle_t *)turns->taken[i]->handle);
  if (keeps) {
    uv_ref((uv_handle_t *)turns->keeper);
  } else {
    uv_unref((uv_handle_t *)turns->keeper);
  }
}

static void untake(struct turns *turns, struct watcher *watcher) {
  for (int i = 0; i < turns->taken_count; i++) {
    if (turns->taken[i] != watcher) continue;
    turns->taken[i] = turns->taken[--turns->taken_count];
    break;
  }
  watcher->taken = 0;
}

static void close_unused(struct turns *turns) {
  if (turns->listed > 0) return;
  close(turns->epoll_fd);
  turns->epoll_fd = -1;
}

/* Into the epoll instance. -1: there is no room in it, or in this process. */
static int list(struct turns *turns, struct watcher *watcher) {
  if (watcher->listed) return 0;
  if (turns->epoll_fd < 0) {
    struct epoll_event of_loop = {.events = EPOLLIN};
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) return -1;
    if (epoll_ctl(fd, EPOLL_CTL_ADD, uv_backend_fd(turns->loop), &of_loop) != 0) {
      close(fd);
      return -1;
    }
    turns->epoll_fd = fd;
  }
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = watcher};
  watcher->listed = epoll_ctl(turns->epoll_fd, EPOLL_CTL_ADD, watcher->fd, &event) == 0;
  turns->listed += watcher->listed;
  close_unused(turns);
  return watcher->listed ? 0 : -1;
}

static void unlist(struct turns *turns, struct watcher *watcher) {
  if (!watcher->listed) return;
  watcher->listed = 0;
  epoll_ctl(turns->epoll_fd, EPOLL_CTL_DEL, watcher->fd, NULL);
  turns->listed--;
  close_unused(turns);
}

/* From libuv, when only reading is watched and there is room. 0: it stays with libuv. */
static int take(struct turns *turns, struct watcher *watcher) {
  if (watcher->taken || watcher->closing || watcher->events != VT_UV_READABLE || turns->taken_count == TAKEN_MAX) return 0;
  if (list(turns, watcher) != 0) return 0;
  uv_poll_stop(watcher->handle);
  watcher->taken = 1;
  turns->taken[turns->taken_count++] = watcher;
  keep(turns);
  return 1;
}

static void give_back(struct turns *turns, struct watcher *watcher) {
  untake(turns, watcher);
  uv_poll_start(watcher->handle, watcher->events, watcher_event);
}

/*
 * The watcher's events change, or it ends: libuv is about to watch it as it now is, or no more. A
 * descriptor must leave the epoll instance before it is closed, as others may have the open file.
 */
void turns_forget(struct watcher *watcher) {
  struct turns *turns = state_of(watcher->env)->turns;
  if (turns == NULL) return;
  if (watcher->taken) untake(turns, watcher);
  if ((watcher->events & VT_UV_READABLE) == 0) unlist(turns, watcher);
}

/* One turn of a client. Its callback may end it, and others. 1: it was taken from libuv now. */
static int turn(struct turns *turns, struct watcher *watcher) {
  if (watcher->closing || (watcher->events & VT_UV_READABLE) == 0) return 0;
  const int taken = take(turns, watcher);
  if (watcher_call(watcher, VT_UV_READABLE)) return taken;
  if (watcher->taken) give_back(turns, watcher);
  unlist(turns, watcher);
  watcher->sticks = 0;
  return 0;
}

struct look {
  int fd;
  struct epoll_event *ready;
};

static int look(void *data, int timeout_ms) {
  const struct look *at = data;
  return epoll_wait(at->fd, at->ready, READY_MAX, timeout_ms);
}

/* Rounds, from the turn of `first` on, until the event loop has something to do. */
static void rounds(struct turns *turns, struct watcher *first) {
  struct epoll_event ready[READY_MAX];
  struct watcher *last = first;
  int64_t busy_since = now_ns();
  turn(turns, first);
  for (int loops_turn = 0; !loops_turn && turns->taken_count > 0;) {
    uv_update_time(turns->loop);
    int timeout = uv_backend_timeout(turns->loop);
    if (timeout == 0) return;
    int64_t before = now_ns();
    if (before - busy_since > ROUNDS_NS) return;
    struct look at = {.fd = turns->epoll_fd, .ready = ready};
    int count = last->spins ? spin_wait(&turns->spin, look, &at, timeout) : look(&at, timeout);
    if (count <= 0) return;
    int64_t after = now_ns();
    if (after - before > IDLE_NS) busy_since = after; /* the loop has not had to wait until now */
    int taken = 0;
    for (int i = 0; i < count; i++) {
      if (ready[i].data.ptr == NULL) {
        loops_turn = 1;
        continue;
      }
      last = ready[i].data.ptr;
      taken |= turn(turns, last);
    }
    /* libuv's descriptor was ready for the client that has been taken from it now: look again. */
    if (taken) loops_turn = 0;
  }
}

/*
 * `watcher`, from libuv's callback, is readable and wants to be asked again without the event loop.
 */
void turns_begin(struct watcher *watcher) {
  struct state *state = state_of(watcher->env);
  if (state->turns == NULL) state->turns = turns_new(watcher->env, watcher->loop);
  struct turns *turns = state->turns;
  if (turns == NULL || turns->running) {
    watcher_call(watcher, VT_UV_READABLE);
    return;
  }
  turns->running = 1;
  uv_check_start(turns->keeper, nothing);
  take(turns, watcher);
  rounds(turns, watcher);
  while (turns->taken_count > 0) give_back(turns, turns->taken[0]);
  uv_check_stop(turns->keeper);
  turns->running = 0;
}

/*
 * watchOthers(fd): whether anything but this descriptor waits for the thread, a client or the event
 * loop; also when that is not known. For a callback that has more to do.
 */
napi_value vt_watch_others(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  const struct state *state = state_of(env);
  const struct watcher *watcher = fd >= 0 && fd < state->watcher_slots ? state->watchers[fd] : NULL;
  if (watcher == NULL || !watcher->taken) return number(env, 1);
  struct epoll_event ready[2];
  int count = epoll_wait(state->turns->epoll_fd, ready, 2, 0);
  for (int i = 0; i < count; i++) {
    if (ready[i].data.ptr != watcher) return number(env, 1);
  }
  return number(env, uv_backend_timeout(state->turns->loop) == 0);
}

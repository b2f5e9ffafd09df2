/*
 * Descriptors of an environment. A worker thread can end in the middle of a call, by
 * worker.terminate() or for want of heap: then nothing in JavaScript closes its descriptors, and
 * the process lives on. The end of the process closes them without help.
 */
#include "addon.h"

#include <sys/syscall.h>
#include <unistd.h>

static int is_main_thread(void) { return syscall(SYS_gettid) == getpid(); }

/*
 * own(fd): the environment's end closes it, unless close, closeForeign or closeSocket does before
 */
napi_value vt_own(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  if (fd < 0) return number(env, -EBADF);
  struct state *state = state_of(env);
  if (fd >= state->owned_slots) {
    const int slots = fd < 1024 ? 1024 : fd * 2;
    uint8_t *grown = realloc(state->owned, slots);
    if (grown == NULL) return number(env, -ENOMEM);
    memset(grown + state->owned_slots, 0, slots - state->owned_slots);
    state->owned = grown;
    state->owned_slots = slots;
  }
  state->owned[fd] = 1;
  return number(env, 0);
}

/* disown(fd): it stays open */
napi_value vt_disown(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  owned_forget(env, fd);
  return number(env, 0);
}

/* Before the descriptor is closed: another thread may get its number at once. */
void owned_forget(napi_env env, int fd) {
  struct state *state = state_of(env);
  if (fd >= 0 && fd < state->owned_slots) state->owned[fd] = 0;
}

void owned_close(struct state *state) {
  if (!is_main_thread()) {
    for (int fd = 0; fd < state->owned_slots; fd++) {
      if (state->owned[fd]) close_foreign(fd);
    }
  }
  free(state->owned);
}

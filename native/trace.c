/*
 * Threads of other processes that this thread traces: ptrace(2) and waitid(2). A tracer is one
 * thread: the thread that seized a tracee makes every request about it. Linux signals SIGCHLD to
 * that very thread when a tracee stops (do_notify_parent_cldstop() in linux/kernel/signal.c), and
 * libuv hands the signal to the event loop.
 */
#include "watch.h"

#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

/* ptrace(request, tid, address, data): requests whose arguments are numbers */
napi_value vt_ptrace(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, request);
  I32(1, tid);
  I64(2, address);
  I64(3, data);
  return answer(env, ptrace(request, tid, (void *)(uintptr_t)address, (void *)(uintptr_t)data));
}

/* The memory of a typed array: its bytes, and how many. */
static int bytes_of(napi_env env, napi_value array, void **bytes, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, array, &type, length, bytes, NULL, NULL) != napi_ok) return -EINVAL;
  return type == napi_uint8_array ? 0 : -EINVAL;
}

/*
 * ptraceBytes(request, tid, address, bytes): requests whose data is memory. The caller knows how
 * many bytes the kernel takes or gives.
 */
napi_value vt_ptrace_bytes(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, request);
  I32(1, tid);
  I64(2, address);
  void *bytes;
  size_t length;
  if (bytes_of(env, argv[3], &bytes, &length) != 0 || length < sizeof(siginfo_t)) return number(env, -EINVAL);
  return answer(env, ptrace(request, tid, (void *)(uintptr_t)address, bytes));
}

/*
 * ptraceRegisters(request, tid, type, bytes): PTRACE_GETREGSET and PTRACE_SETREGSET of one type of
 * note, NT_. The result: the bytes that the kernel gave or took.
 */
napi_value vt_ptrace_registers(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, request);
  I32(1, tid);
  I32(2, type);
  struct iovec all;
  if ((request != PTRACE_GETREGSET && request != PTRACE_SETREGSET) || bytes_of(env, argv[3], &all.iov_base, &all.iov_len) != 0)
    return number(env, -EINVAL);
  return answer(env, ptrace(request, tid, (void *)(uintptr_t)type, &all) < 0 ? -1 : (int64_t)all.iov_len);
}

struct waited {
  idtype_t which;
  id_t id;
  int options;
  int yields;
  siginfo_t info;
};

static int look_for_child(void *what, int timeout_ms) {
  (void)timeout_ms; /* only the looks before it matter here */
  struct waited *waited = what;
  waited->info.si_pid = 0;
  if (waitid(waited->which, waited->id, &waited->info, waited->options | WNOHANG) < 0) return -1;
  if (waited->info.si_pid != 0) return 1;
  /* On one core the tracee runs only while this thread does not. */
  if (waited->yields) sched_yield();
  return 0;
}

/*
 * waitid(which, id, options, into, spins): a change of a child or tracee into `into` as pid, code,
 * status. 1: there was one; 0: there was none. It never sleeps; with `spins` it looks again and
 * again for as long as that has paid off lately (spin.c), and yields in between.
 */
napi_value vt_waitid(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, which);
  I32(1, id);
  I32(2, options);
  int32_t *into;
  if (int32s(env, argv[3], 3, &into) != 0) return number(env, -EINVAL);
  OPTIONAL_FLAG(4, spins);
  struct waited waited = {.which = (idtype_t)which, .id = (id_t)id, .options = options, .yields = spins};
  int found = spins ? spin_wait(&state_of(env)->trace_spin, look_for_child, &waited, 1) : look_for_child(&waited, 0);
  if (found > 0) {
    into[0] = waited.info.si_pid;
    into[1] = waited.info.si_code;
    into[2] = waited.info.si_status;
  }
  return answer(env, found);
}

/*
 * cpuid(leaf, subleaf, into): EAX to EDX, which say where XSAVE keeps which registers;
 * -EOPNOTSUPP on other processors than x86-64
 */
napi_value vt_cpuid(napi_env env, napi_callback_info info) {
  ARGS(3);
  U32(0, leaf);
  U32(1, subleaf);
  int32_t *into;
  if (int32s(env, argv[2], 4, &into) != 0) return number(env, -EINVAL);
#ifdef __x86_64__
  uint32_t a, b, c, d;
  if (!__get_cpuid_count(leaf, subleaf, &a, &b, &c, &d)) return number(env, -EOPNOTSUPP);
  into[0] = (int32_t)a, into[1] = (int32_t)b, into[2] = (int32_t)c, into[3] = (int32_t)d;
  return number(env, 0);
#else
  (void)leaf, (void)subleaf, (void)into;
  return number(env, -EOPNOTSUPP);
#endif
}

/* SIGCHLD, on the event loop of an environment: one for each callback. */
struct child_watch {
  struct child_watch *next;
  uv_signal_t *handle;
  napi_env env;
  napi_ref callback;
  napi_async_cleanup_hook_handle hook;
  int id;
};

static void on_watch_closed(uv_handle_t *handle) {
  struct child_watch *watch = uv_handle_get_data(handle);
  napi_remove_async_cleanup_hook(watch->hook);
  free(watch->handle);
  free(watch);
}

static void unlist(struct child_watch *watch) {
  struct child_watch **at = &state_of(watch->env)->child_watches;
  while (*at != watch) at = &(*at)->next;
  *at = watch->next;
}

static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  struct child_watch *watch = data;
  unlist(watch);
  uv_close((uv_handle_t *)watch->handle, on_watch_closed);
}

static void on_child(uv_signal_t *handle, int signum) {
  (void)signum;
  struct child_watch *watch = uv_handle_get_data((uv_handle_t *)handle);
  call_back(watch->env, watch->callback);
}

static int watch_children(napi_env env, napi_value callback, struct state *state) {
  uv_loop_t *loop;
  if (napi_get_uv_event_loop(env, (struct uv_loop_s **)&loop) != napi_ok) return -EIO;
  struct child_watch *watch = calloc(1, sizeof *watch);
  uv_signal_t *handle = calloc(1, uv_handle_size(VT_UV_SIGNAL));
  int error = watch == NULL || handle == NULL ? -ENOMEM : uv_signal_init(loop, handle);
  if (error != 0) {
    free(watch);
    free(handle);
    return error;
  }
  /* From here on the handle is libuv's until it has been closed. */
  *watch = (struct child_watch){.handle = handle, .env = env};
  uv_handle_set_data((uv_handle_t *)handle, watch);
  uv_unref((uv_handle_t *)handle);
  error = uv_signal_start(handle, on_child, SIGCHLD);
  if (error == 0 && napi_create_reference(env, callback, 1, &watch->callback) != napi_ok) error = -ENOMEM;
  if (error == 0 && napi_add_async_cleanup_hook(env, on_environment_end, watch, &watch->hook) != napi_ok) error = -ENOMEM;
  if (error != 0) {
    if (watch->callback != NULL) napi_delete_reference(env, watch->callback);
    uv_close((uv_handle_t *)handle, on_watch_closed);
    return error;
  }
  watch->id = ++state->child_watch_ids;
  watch->next = state->child_watches;
  state->child_watches = watch;
  return watch->id;
}

/*
 * childWatch(callback): call it from the event loop after changes of children and tracees, until
 * childUnwatch of the result, a positive number. It keeps no event loop alive.
 */
napi_value vt_child_watch(napi_env env, napi_callback_info info) {
  ARGS(1);
  napi_valuetype type;
  if (napi_typeof(env, argv[0], &type) != napi_ok || type != napi_function) return number(env, -EINVAL);
  return number(env, watch_children(env, argv[0], state_of(env)));
}

/* childUnwatch(id): no call comes after this returns. */
napi_value vt_child_unwatch(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, id);
  struct child_watch *watch = state_of(env)->child_watches;
  while (watch != NULL && watch->id != id) watch = watch->next;
  if (watch == NULL) return number(env, -ENOENT);
  unlist(watch);
  napi_delete_reference(env, watch->callback);
  uv_close((uv_handle_t *)watch->handle, on_watch_closed);
  return number(env, 0);
}

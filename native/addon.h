/* Shared by the files of the addon: the state of an environment, arguments in, results out. */
#pragma once
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <node_api.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "old-glibc.h"

struct mapping;
struct watcher;
struct turns;
struct file;
struct signaller;
struct child_watch;
struct registers;

/* Of one thread that waits for its peers: see spin.c. */
struct spin {
  int64_t budget_ns;
  uint32_t waits;
};

struct state {
  struct mapping *mappings; /* see memory.c */
  struct watcher **watchers; /* by descriptor: libuv allows one handle per descriptor and loop */
  int watcher_slots;
  struct turns *turns; /* see turns.c; NULL until a client is watched */
  struct file **files; /* by id, see file.c */
  int file_slots;
  struct signaller *signaller; /* see signal.c */
  struct spin spin; /* of waits in poll and pollEither */
  struct spin trace_spin; /* of waitid, see trace.c */
  struct child_watch *child_watches; /* see trace.c */
  int child_watch_ids;
  uint8_t *owned; /* by descriptor, see owned.c */
  int owned_slots;
  struct registers *registers; /* by number, see registers.c */
  int registers_slots;
};

static inline struct state *state_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

static inline napi_value number(napi_env env, int64_t value) {
  napi_value result = NULL;
  napi_create_int64(env, value, &result);
  return result;
}

/* The result of a system call, with errno folded in. */
static inline napi_value answer(napi_env env, int64_t returned) { return number(env, returned < 0 ? -errno : returned); }

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
/* The argument after the `n` that ARGS took, false when it is absent. */
#define OPTIONAL_FLAG(n, name)                                                                                                                 \
  bool name = false;                                                                                                                           \
  {                                                                                                                                            \
    napi_value given[n + 1];                                                                                                                   \
    size_t count = n + 1;                                                                                                                      \
    if (napi_get_cb_info(env, info, &count, given, NULL, NULL) == napi_ok && count > n) napi_get_value_bool(env, given[n], &name);              \
  }
#define I64(i, name)                                                                                                                           \
  int64_t name;                                                                                                                                \
  if (napi_get_value_int64(env, argv[i], &name) != napi_ok) return number(env, -EINVAL)

/* The memory of an Int32Array of at least `count` numbers. */
static inline int int32s(napi_env env, napi_value array, size_t count, int32_t **numbers) {
  napi_typedarray_type type;
  size_t length;
  if (napi_get_typedarray_info(env, array, &type, &length, (void **)numbers, NULL, NULL) != napi_ok) return -EINVAL;
  return type == napi_int32_array && length >= count ? 0 : -EINVAL;
}

/* memory.c */
void mapping_free(struct mapping *mapping);
int bus_handler_install(void);

/* registers.c */
int registers_mend(void *context);
void registers_free(struct state *state);

/* file.c */
void files_free(struct state *state);

/* CLOCK_MONOTONIC */
static inline int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* spin.c */
struct pollfd;
int spin_wait(struct spin *spin, int (*look)(void *what, int timeout_ms), void *what, int timeout_ms);
int spin_poll(struct spin *spin, struct pollfd *fds, int count, int timeout_ms);

/* signal.c */
void signaller_free(struct state *state);

/* owned.c */
void owned_forget(napi_env env, int fd);
void owned_close(struct state *state);

/* foreign.c: close a peer's descriptor, without waiting for the peer */
void close_foreign(int fd);

napi_value vt_own(napi_env env, napi_callback_info info);
napi_value vt_disown(napi_env env, napi_callback_info info);
napi_value vt_close_foreign(napi_env env, napi_callback_info info);
napi_value vt_cannot_wait(napi_env env, napi_callback_info info);
napi_value vt_closing(napi_env env, napi_callback_info info);
napi_value vt_eventfd_signal(napi_env env, napi_callback_info info);
napi_value vt_close_socket(napi_env env, napi_callback_info info);
napi_value vt_mmap(napi_env env, napi_callback_info info);
napi_value vt_munmap(napi_env env, napi_callback_info info);
napi_value vt_mapping_faults(napi_env env, napi_callback_info info);
napi_value vt_memfd_create(napi_env env, napi_callback_info info);
napi_value vt_ftruncate(napi_env env, napi_callback_info info);
napi_value vt_watch_start(napi_env env, napi_callback_info info);
napi_value vt_watch_stop(napi_env env, napi_callback_info info);
napi_value vt_watch_ref(napi_env env, napi_callback_info info);
napi_value vt_watch_others(napi_env env, napi_callback_info info);
napi_value vt_socketpair(napi_env env, napi_callback_info info);
napi_value vt_socket(napi_env env, napi_callback_info info);
napi_value vt_bind(napi_env env, napi_callback_info info);
napi_value vt_connect(napi_env env, napi_callback_info info);
napi_value vt_bind_inet(napi_env env, napi_callback_info info);
napi_value vt_connect_inet(napi_env env, napi_callback_info info);
napi_value vt_setsockopt(napi_env env, napi_callback_info info);
napi_value vt_connect_abstract(napi_env env, napi_callback_info info);
napi_value vt_listen(napi_env env, napi_callback_info info);
napi_value vt_accept(napi_env env, napi_callback_info info);
napi_value vt_getsockopt(napi_env env, napi_callback_info info);
napi_value vt_peer_credentials(napi_env env, napi_callback_info info);
napi_value vt_flock(napi_env env, napi_callback_info info);
napi_value vt_shutdown(napi_env env, napi_callback_info info);
napi_value vt_read(napi_env env, napi_callback_info info);
napi_value vt_write(napi_env env, napi_callback_info info);
napi_value vt_sendmsg(napi_env env, napi_callback_info info);
napi_value vt_recvmsg(napi_env env, napi_callback_info info);
napi_value vt_preadv2(napi_env env, napi_callback_info info);
napi_value vt_pread_all(napi_env env, napi_callback_info info);
napi_value vt_pwritev2(napi_env env, napi_callback_info info);
napi_value vt_mknod(napi_env env, napi_callback_info info);
napi_value vt_lseek(napi_env env, napi_callback_info info);
napi_value vt_fcntl_lock(napi_env env, napi_callback_info info);
napi_value vt_file_open(napi_env env, napi_callback_info info);
napi_value vt_file_submit(napi_env env, napi_callback_info info);
napi_value vt_file_reap(napi_env env, napi_callback_info info);
napi_value vt_file_abandon(napi_env env, napi_callback_info info);
napi_value vt_allocated(napi_env env, napi_callback_info info);
napi_value vt_file_close(napi_env env, napi_callback_info info);
napi_value vt_pages_scan(napi_env env, napi_callback_info info);
napi_value vt_pages_take(napi_env env, napi_callback_info info);
napi_value vt_crc32c(napi_env env, napi_callback_info info);
napi_value vt_launch(napi_env env, napi_callback_info info);
napi_value vt_notif_receive(napi_env env, napi_callback_info info);
napi_value vt_notif_send(napi_env env, napi_callback_info info);
napi_value vt_notif_add_fd(napi_env env, napi_callback_info info);
napi_value vt_notif_set_flags(napi_env env, napi_callback_info info);
napi_value vt_pidfd_open(napi_env env, napi_callback_info info);
napi_value vt_pidfd_getfd(napi_env env, napi_callback_info info);
napi_value vt_pidfd_signal(napi_env env, napi_callback_info info);
napi_value vt_pidfd_wait(napi_env env, napi_callback_info info);
napi_value vt_process_read(napi_env env, napi_callback_info info);
napi_value vt_process_write(napi_env env, napi_callback_info info);
napi_value vt_stat_descriptor(napi_env env, napi_callback_info info);
napi_value vt_process_limits(napi_env env, napi_callback_info info);
napi_value vt_map_query(napi_env env, napi_callback_info info);
napi_value vt_inotify_init(napi_env env, napi_callback_info info);
napi_value vt_inotify_add(napi_env env, napi_callback_info info);
napi_value vt_inotify_remove(napi_env env, napi_callback_info info);
napi_value vt_ptrace(napi_env env, napi_callback_info info);
napi_value vt_ptrace_bytes(napi_env env, napi_callback_info info);
napi_value vt_ptrace_registers(napi_env env, napi_callback_info info);
napi_value vt_waitid(napi_env env, napi_callback_info info);
napi_value vt_cpuid(napi_env env, napi_callback_info info);
napi_value vt_child_watch(napi_env env, napi_callback_info info);
napi_value vt_child_unwatch(napi_env env, napi_callback_info info);
napi_value vt_madvise(napi_env env, napi_callback_info info);
napi_value vt_ioctl_bytes(napi_env env, napi_callback_info info);
napi_value vt_pread(napi_env env, napi_callback_info info);
napi_value vt_pwrite(napi_env env, napi_callback_info info);
napi_value vt_sysconf(napi_env env, napi_callback_info info);
napi_value vt_address_of(napi_env env, napi_callback_info info);
napi_value vt_registers_map(napi_env env, napi_callback_info info);
napi_value vt_registers_unmap(napi_env env, napi_callback_info info);
napi_value vt_registers_address(napi_env env, napi_callback_info info);
napi_value vt_registers_load8(napi_env env, napi_callback_info info);
napi_value vt_registers_load16(napi_env env, napi_callback_info info);
napi_value vt_registers_load32(napi_env env, napi_callback_info info);
napi_value vt_registers_load64(napi_env env, napi_callback_info info);
napi_value vt_registers_store8(napi_env env, napi_callback_info info);
napi_value vt_registers_store16(napi_env env, napi_callback_info info);
napi_value vt_registers_store32(napi_env env, napi_callback_info info);
napi_value vt_registers_store64(napi_env env, napi_callback_info info);

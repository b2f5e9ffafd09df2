/* Other processes: their memory, their descriptors, their end; and the last close of a file. */
#include "addon.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* linux/wait.h, since 5.4; an enumerator in newer C libraries */
#endif

/* pidfdOpen(pid) */
napi_value vt_pidfd_open(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, pid);
  return answer(env, syscall(SYS_pidfd_open, pid, 0));
}

/* pidfdGetfd(pidfd, fd): a descriptor of ours for the same open file */
napi_value vt_pidfd_getfd(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, pidfd);
  I32(1, fd);
  return answer(env, syscall(SYS_pidfd_getfd, pidfd, fd, 0));
}

/* pidfdSignal(pidfd, signal) */
napi_value vt_pidfd_signal(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, pidfd);
  I32(1, number_of_signal);
  return answer(env, syscall(SYS_pidfd_send_signal, pidfd, number_of_signal, NULL, 0));
}

/*
 * pidfdWait(pidfd, into): 1 when our child has ended: `into` gets CLD_EXITED or another reason, and
 * its status or signal. 0 while it runs.
 */
napi_value vt_pidfd_wait(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, pidfd);
  int32_t *into;
  if (int32s(env, argv[1], 2, &into) != 0) return number(env, -EINVAL);
  siginfo_t ended = {0};
  if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &ended, WEXITED | WNOHANG) != 0) return number(env, -errno);
  if (ended.si_pid == 0) return number(env, 0);
  into[0] = ended.si_code;
  into[1] = ended.si_status;
  return number(env, 1);
}

/* processRead and processWrite: (pid, address, bytes, start, end), the number of bytes copied */
static napi_value transfer(napi_env env, napi_callback_info info, int writes) {
  ARGS(5);
  I32(0, pid);
  I64(1, address);
  I64(3, start);
  I64(4, end);
  napi_typedarray_type type;
  size_t length;
  uint8_t *bytes;
  if (napi_get_typedarray_info(env, argv[2], &type, &length, (void **)&bytes, NULL, NULL) != napi_ok || type != napi_uint8_array || start < 0 ||
      end < start || (uint64_t)end > length) {
    return number(env, -EINVAL);
  }
  const struct iovec here = {.iov_base = bytes + start, .iov_len = (size_t)(end - start)};
  const struct iovec there = {.iov_base = (void *)(uintptr_t)address, .iov_len = (size_t)(end - start)};
  return answer(env, writes ? process_vm_writev(pid, &here, 1, &there, 1, 0) : process_vm_readv(pid, &here, 1, &there, 1, 0));
}

napi_value vt_process_read(napi_env env, napi_callback_info info) { return transfer(env, info, 0); }

napi_value vt_process_write(napi_env env, napi_callback_info info) { return transfer(env, info, 1); }

/*
 * statDescriptor(directory, fd, into): the file behind descriptor `fd`, where `directory` is
 * /proc/PID/fd. `into`, a Uint32Array, gets the device's major and minor number, the inode's lower
 * and upper half, and the mode. No server of the file is asked (AT_STATX_DONT_SYNC).
 */
napi_value vt_stat_descriptor(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, directory);
  I32(1, fd);
  napi_typedarray_type type;
  size_t length;
  uint32_t *into;
  if (napi_get_typedarray_info(env, argv[2], &type, &length, (void **)&into, NULL, NULL) != napi_ok || type != napi_uint32_array || length < 5) {
    return number(env, -EINVAL);
  }
  char name[16];
  snprintf(name, sizeof name, "%d", fd);
  struct statx found;
  if (statx(directory, name, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &found) != 0) return number(env, -errno);
  into[0] = found.stx_dev_major;
  into[1] = found.stx_dev_minor;
  into[2] = (uint32_t)found.stx_ino;
  into[3] = (uint32_t)(found.stx_ino >> 32);
  into[4] = found.stx_mode;
  return number(env, 0);
}

/* inotifyInit(flags) */
napi_value vt_inotify_init(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, flags);
  return answer(env, inotify_init1(flags));
}

/* inotifyAdd(fd, path, mask): a watch */
napi_value vt_inotify_add(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  U32(2, mask);
  char path[PATH_MAX];
  size_t length;
  if (napi_get_value_string_utf8(env, argv[1], path, sizeof path, &length) != napi_ok) return number(env, -EINVAL);
  return answer(env, inotify_add_watch(fd, path, mask));
}

/* inotifyRemove(fd, watch) */
napi_value vt_inotify_remove(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, watch);
  return answer(env, inotify_rm_watch(fd, watch));
}

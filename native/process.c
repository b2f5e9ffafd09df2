/* Other processes: their memory, their descriptors, their end; and the last close of a file. */
#include "addon.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
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

enum { LAST = 4, ENTRY_MAX = 64 };

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
  const size_t count = (size_t)(end - start);
  const struct iovec here = {.iov_base = bytes + start, .iov_len = count};
  char *at = (char *)(uintptr_t)address;
  if (!writes) return answer(env, process_vm_readv(pid, &here, 1, &(struct iovec){.iov_base = at, .iov_len = count}, 1, 0));
  /*
   * The last word of an entry of a ring says that the entry is there (the phase of an NVMe
   * completion): it comes after the others.
   */
  const size_t first = count > LAST && count <= ENTRY_MAX ? count - LAST : count;
  const struct iovec there[2] = {{.iov_base = at, .iov_len = first}, {.iov_base = at + first, .iov_len = count - first}};
  return answer(env, process_vm_writev(pid, &here, 1, there, first == count ? 1 : 2, 0));
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

/* A limit as a number: -1 for none. */
static double limit_of(pid_t pid, int resource) {
  struct rlimit limit;
  if (prlimit(pid, resource, NULL, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? -1 : (double)limit.rlim_cur;
}

static double *doubles(napi_env env, napi_value array, size_t count) {
  napi_typedarray_type type;
  size_t length;
  void *numbers;
  if (napi_get_typedarray_info(env, array, &type, &length, &numbers, NULL, NULL) != napi_ok) return NULL;
  return type == napi_float64_array && length >= count ? numbers : NULL;
}

/*
 * processLimits(pid, into): lower and upper half of the effective capabilities, RLIMIT_MEMLOCK,
 * RLIMIT_NOFILE
 */
napi_value vt_process_limits(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, pid);
  double *into = doubles(env, argv[1], 4);
  if (into == NULL) return number(env, -EINVAL);
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = pid};
  struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
  if (syscall(SYS_capget, &header, sets) != 0) return number(env, -errno);
  into[0] = sets[0].effective;
  into[1] = sets[1].effective;
  into[2] = limit_of(pid, RLIMIT_MEMLOCK);
  into[3] = limit_of(pid, RLIMIT_NOFILE);
  return number(env, 0);
}

/* linux/fs.h, struct procmap_query and PROCMAP_QUERY, since Linux 6.11 */
struct map_query {
  uint64_t size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
  uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
  uint64_t vma_name_addr, build_id_addr;
};
#define MAP_QUERY _IOWR('f', 17, struct map_query)
enum { COVERING_OR_NEXT = 0x10 };

/*
 * mapQuery(maps, address, into): the area of the address space that holds `address`, or the next:
 * first address, the one behind it, flags, place in its file, major, minor, inode's lower and upper
 * half
 */
napi_value vt_map_query(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, maps);
  I64(1, address);
  double *into = doubles(env, argv[2], 8);
  if (into == NULL) return number(env, -EINVAL);
  struct map_query query = {.size = sizeof query, .query_flags = COVERING_OR_NEXT, .query_addr = (uint64_t)address};
  if (ioctl(maps, MAP_QUERY, &query) != 0) return number(env, -errno);
  into[0] = (double)query.vma_start;
  into[1] = (double)query.vma_end;
  into[2] = (double)query.vma_flags;
  into[3] = (double)query.vma_offset;
  into[4] = query.dev_major;
  into[5] = query.dev_minor;
  into[6] = (double)(uint32_t)query.inode;
  into[7] = (double)(query.inode >> 32);
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

/*
 * vfio-ts: the door to Linux. One function for each system call, which returns the call's result or
 * -errno. Policy, defaults and retries are in src/sys. No function throws, prints or exits. A wrong
 * argument type is -EINVAL. There are three exceptions: the threads of file.c, which make several
 * calls of one operation, the closing of peers' descriptors (foreign.c), and the child that becomes
 * a program (launch.c).
 *
 * All state hangs on the environment (napi_set_instance_data), so that the addon loads in worker
 * threads too. Only the handler of SIGBUS (memory.c) and the list of descriptors in closing
 * (foreign.c) belong to the whole process.
 */
#include "addon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * The sources that this addon is made of. src/sys/addon-file.ts looks for the text before it loads
 * the file.
 */
__attribute__((used)) static const char made_of[] = VFIO_TS_SOURCES;

/* close(fd) */
static napi_value vt_close(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  owned_forget(env, fd);
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

/* poll({fd, events}, timeoutMs, spins): revents, 0 when the time is up */
static napi_value vt_poll(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I32(1, events);
  I32(2, timeout_ms);
  OPTIONAL_FLAG(3, spins);
  struct pollfd one = {.fd = fd, .events = (short)events};
  int ready = spins ? spin_poll(&state_of(env)->spin, &one, 1, timeout_ms) : poll(&one, 1, timeout_ms);
  return answer(env, ready > 0 ? one.revents : ready);
}

/*
 * poll of two descriptors for input, timeoutMs, spins: 1 when there is something for the first, 2
 * for the second, 3 for both, 0 when the time is up
 */
static napi_value vt_poll_either(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, first);
  I32(1, second);
  I32(2, timeout_ms);
  OPTIONAL_FLAG(3, spins);
  struct pollfd both[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
  int ready = spins ? spin_poll(&state_of(env)->spin, both, 2, timeout_ms) : poll(both, 2, timeout_ms);
  return answer(env, ready > 0 ? (both[0].revents != 0 ? 1 : 0) | (both[1].revents != 0 ? 2 : 0) : ready);
}

/* eventfd(initial, flags) */
static napi_value vt_eventfd(napi_env env, napi_callback_info info) {
  ARGS(2);
  U32(0, initial);
  I32(1, flags);
  return answer(env, eventfd(initial, flags));
}

/*
 * read of an eventfd: its counter as a bigint, or -errno as a number. It never waits, even when
 * another process has made the open file blocking. Linux before 5.8 has no such read, so a poll
 * comes first.
 */
static napi_value vt_eventfd_read(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  uint64_t value;
  struct iovec all = {.iov_base = &value, .iov_len = sizeof value};
  ssize_t got = preadv2(fd, &all, 1, -1, RWF_NOWAIT);
  if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    if (poll(&one, 1, 0) == 0) return number(env, -EAGAIN);
    got = read(fd, &value, sizeof value);
  }
  if (got < 0) return number(env, -errno);
  napi_value result = NULL;
  napi_create_bigint_uint64(env, value, &result);
  return result;
}

/* ioctl whose argument is a number */
static napi_value vt_ioctl(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  U32(1, request);
  I64(2, argument);
  return answer(env, ioctl(fd, request, (unsigned long)argument));
}

static const struct {
  const char *name;
  napi_callback function;
} functions[] = {
    {"close", vt_close},
    {"own", vt_own},
    {"disown", vt_disown},
    {"closeForeign", vt_close_foreign},
    {"cannotWait", vt_cannot_wait},
    {"closing", vt_closing},
    {"closeSocket", vt_close_socket},
    {"fcntl", vt_fcntl},
    {"ioctl", vt_ioctl},
    {"poll", vt_poll},
    {"pollEither", vt_poll_either},
    {"eventfd", vt_eventfd},
    {"eventfdRead", vt_eventfd_read},
    {"eventfdSignal", vt_eventfd_signal},
    {"socketpair", vt_socketpair},
    {"socket", vt_socket},
    {"bind", vt_bind},
    {"connect", vt_connect},
    {"connectAbstract", vt_connect_abstract},
    {"bindInet", vt_bind_inet},
    {"connectInet", vt_connect_inet},
    {"setsockopt", vt_setsockopt},
    {"listen", vt_listen},
    {"accept", vt_accept},
    {"getsockopt", vt_getsockopt},
    {"peerCredentials", vt_peer_credentials},
    {"flock", vt_flock},
    {"shutdown", vt_shutdown},
    {"read", vt_read},
    {"write", vt_write},
    {"sendmsg", vt_sendmsg},
    {"recvmsg", vt_recvmsg},
    {"preadv2", vt_preadv2},
    {"preadAll", vt_pread_all},
    {"pwritev2", vt_pwritev2},
    {"mknod", vt_mknod},
    {"lseek", vt_lseek},
    {"fcntlLock", vt_fcntl_lock},
    {"fileOpen", vt_file_open},
    {"fileSubmit", vt_file_submit},
    {"fileReap", vt_file_reap},
    {"fileAbandon", vt_file_abandon},
    {"allocated", vt_allocated},
    {"fileClose", vt_file_close},
    {"pagesScan", vt_pages_scan},
    {"pagesTake", vt_pages_take},
    {"crc32c", vt_crc32c},
    {"memfdCreate", vt_memfd_create},
    {"ftruncate", vt_ftruncate},
    {"mmap", vt_mmap},
    {"munmap", vt_munmap},
    {"mappingFaults", vt_mapping_faults},
    {"madvise", vt_madvise},
    {"watchStart", vt_watch_start},
    {"watchStop", vt_watch_stop},
    {"watchRef", vt_watch_ref},
    {"watchOthers", vt_watch_others},
    {"launch", vt_launch},
    {"notifReceive", vt_notif_receive},
    {"notifSend", vt_notif_send},
    {"notifAddFd", vt_notif_add_fd},
    {"notifSetFlags", vt_notif_set_flags},
    {"pidfdOpen", vt_pidfd_open},
    {"pidfdGetfd", vt_pidfd_getfd},
    {"pidfdSignal", vt_pidfd_signal},
    {"pidfdWait", vt_pidfd_wait},
    {"processRead", vt_process_read},
    {"processWrite", vt_process_write},
    {"statDescriptor", vt_stat_descriptor},
    {"processLimits", vt_process_limits},
    {"mapQuery", vt_map_query},
    {"inotifyInit", vt_inotify_init},
    {"inotifyAdd", vt_inotify_add},
    {"inotifyRemove", vt_inotify_remove},
    {"ptrace", vt_ptrace},
    {"ptraceBytes", vt_ptrace_bytes},
    {"ptraceRegisters", vt_ptrace_registers},
    {"waitid", vt_waitid},
    {"cpuid", vt_cpuid},
    {"childWatch", vt_child_watch},
    {"childUnwatch", vt_child_unwatch},
    {"ioctlBytes", vt_ioctl_bytes},
    {"pread", vt_pread},
    {"pwrite", vt_pwrite},
    {"addressOf", vt_address_of},
    {"sysconf", vt_sysconf},
    {"registersMap", vt_registers_map},
    {"registersUnmap", vt_registers_unmap},
    {"registersAddress", vt_registers_address},
    {"load8", vt_registers_load8},
    {"load16", vt_registers_load16},
    {"load32", vt_registers_load32},
    {"load64", vt_registers_load64},
    {"store8", vt_registers_store8},
    {"store16", vt_registers_store16},
    {"store32", vt_registers_store32},
    {"store64", vt_registers_store64},
};

/* Watchers are gone already: their hooks ran before. */
static void state_free(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct state *state = data;
  files_free(state); /* The first step: threads may be writing into memory that is mapped here. */
  signaller_free(state);
  while (state->mappings != NULL) mapping_free(state->mappings);
  registers_free(state);
  owned_close(state);
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

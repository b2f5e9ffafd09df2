/*
 * vfio-ts: the door to Linux. One function per system call, each answering what the call answered or -errno; no policy, no defaults, no
 * retries: those are in src/sys. Nothing here throws, prints or exits. A wrong argument type is -EINVAL.
 *
 * All state hangs on the environment (napi_set_instance_data), so that the addon loads in worker threads too.
 * libuv is reached by hand-written declarations: uv.h is not part of the Node-API headers. Only functions of its stable ABI are used, and
 * handles are allocated with uv_handle_size().
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <node_api.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

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

/* A live mapping; in a list, so that an environment that ends without munmap (a terminated worker) gives its address space back. */
struct mapping {
  struct mapping *next, **link;
  char *data;
  size_t length, page;
  /* A peer's file: see on_bus_error. Under guard_lock: */
  struct mapping *next_guarded, **guarded_link;
  atomic_uint faults;
};

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
};

struct state {
  struct mapping *mappings;
  struct watcher **watchers; /* by descriptor: libuv allows one handle per descriptor and loop */
  int watcher_slots;
};

enum { VT_SCM_PIDFD = 4 }; /* linux/socket.h, since 6.5 */

/* Marks the ArrayBuffers that are ours, so that munmap can never be talked into unmapping someone else's memory. */
static const napi_type_tag mapping_tag = {0x7666696f2d74735fULL, 0x6d617070696e6700ULL};

static struct state *state_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

static napi_value number(napi_env env, int64_t value) {
  napi_value result = NULL;
  napi_create_int64(env, value, &result);
  return result;
}

/* What a system call returned, with errno folded in. */
static napi_value answer(napi_env env, int64_t returned) { return number(env, returned < 0 ? -errno : returned); }

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
#define I64(i, name)                                                                                                                           \
  int64_t name;                                                                                                                                \
  if (napi_get_value_int64(env, argv[i], &name) != napi_ok) return number(env, -EINVAL)

/* The memory of an Int32Array of at least `count` numbers. */
static int int32s(napi_env env, napi_value array, size_t count, int32_t **numbers) {
  napi_typedarray_type type;
  size_t length;
  if (napi_get_typedarray_info(env, array, &type, &length, (void **)numbers, NULL, NULL) != napi_ok) return -EINVAL;
  return type == napi_int32_array && length >= count ? 0 : -EINVAL;
}

/* close(fd) */
static napi_value vt_close(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
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

/* poll({fd, events}, timeoutMs): revents, 0 when the time is up */
static napi_value vt_poll(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I32(1, events);
  I32(2, timeout_ms);
  struct pollfd one = {.fd = fd, .events = (short)events};
  int ready = poll(&one, 1, timeout_ms);
  return answer(env, ready > 0 ? one.revents : ready);
}

/* poll of two descriptors for input, timeoutMs: 1 when there is something for the first, 2 for the second, 3 for both, 0 when the time is up */
static napi_value vt_poll_either(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, first);
  I32(1, second);
  I32(2, timeout_ms);
  struct pollfd both[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
  int ready = poll(both, 2, timeout_ms);
  return answer(env, ready > 0 ? (both[0].revents != 0 ? 1 : 0) | (both[1].revents != 0 ? 2 : 0) : ready);
}

/* eventfd(initial, flags) */
static napi_value vt_eventfd(napi_env env, napi_callback_info info) {
  ARGS(2);
  U32(0, initial);
  I32(1, flags);
  return answer(env, eventfd(initial, flags));
}

/* read of an eventfd: its counter as a bigint, or -errno as a number */
static napi_value vt_eventfd_read(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  uint64_t value;
  if (read(fd, &value, sizeof value) < 0) return number(env, -errno);
  napi_value result = NULL;
  napi_create_bigint_uint64(env, value, &result);
  return result;
}

/* write of an eventfd: low and high half of what is added, as numbers so that a signal makes no bigint */
static napi_value vt_eventfd_write(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  U32(1, low);
  U32(2, high);
  uint64_t value = (uint64_t)high << 32 | low;
  return answer(env, write(fd, &value, sizeof value));
}

/* socketpair of connected stream sockets: pair(numbers) fills two numbers in */
static napi_value vt_socketpair(napi_env env, napi_callback_info info) {
  ARGS(1);
  int32_t *pair;
  if (int32s(env, argv[0], 2, &pair) != 0) return number(env, -EINVAL);
  return answer(env, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
}

/* socket(domain, type): one that does not block */
static napi_value vt_socket(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, domain);
  I32(1, type);
  return answer(env, socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

/* A path as an address; -EINVAL when it is empty, does not fit or has a NUL in it, which would make it another one. */
static int address_of(napi_env env, napi_value path, struct sockaddr_un *address) {
  size_t length;
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (napi_get_value_string_utf8(env, path, NULL, 0, &length) != napi_ok || length == 0 || length >= sizeof address->sun_path) return -EINVAL;
  napi_get_value_string_utf8(env, path, address->sun_path, sizeof address->sun_path, &length);
  return strlen(address->sun_path) == length ? 0 : -EINVAL;
}

/* bind(fd, path) */
static napi_value vt_bind(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  struct sockaddr_un address;
  if (address_of(env, argv[1], &address) != 0) return number(env, -EINVAL);
  return answer(env, bind(fd, (struct sockaddr *)&address, sizeof address));
}

/* connect(fd, path) */
static napi_value vt_connect(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  struct sockaddr_un address;
  if (address_of(env, argv[1], &address) != 0) return number(env, -EINVAL);
  return answer(env, connect(fd, (struct sockaddr *)&address, sizeof address));
}

/* listen(fd, backlog) */
static napi_value vt_listen(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, backlog);
  return answer(env, listen(fd, backlog));
}

/* accept(fd): a connection that does not block */
static napi_value vt_accept(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  return answer(env, accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

/* getsockopt(fd, option) of a number at SOL_SOCKET */
static napi_value vt_getsockopt(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, option);
  int value = 0;
  socklen_t size = sizeof value;
  return answer(env, getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0 ? -1 : value);
}

/* getsockopt(fd, SO_PEERCRED): fills pid, uid, gid in */
static napi_value vt_peer_credentials(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  int32_t *out;
  if (int32s(env, argv[1], 3, &out) != 0) return number(env, -EINVAL);
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return number(env, -errno);
  out[0] = peer.pid;
  out[1] = (int32_t)peer.uid;
  out[2] = (int32_t)peer.gid;
  return number(env, 0);
}

/* flock(fd, operation) */
static napi_value vt_flock(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, operation);
  return answer(env, flock(fd, operation));
}

/* shutdown(fd, how) */
static napi_value vt_shutdown(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, how);
  return answer(env, shutdown(fd, how));
}

/* Bytes [start, end) of a Uint8Array. */
static int range_of(napi_env env, napi_value *bytes_start_end, struct iovec *range) {
  napi_typedarray_type type;
  size_t length;
  void *data;
  double start, end;
  if (napi_get_typedarray_info(env, bytes_start_end[0], &type, &length, &data, NULL, NULL) != napi_ok || type != napi_uint8_array) return -EINVAL;
  if (napi_get_value_double(env, bytes_start_end[1], &start) != napi_ok || napi_get_value_double(env, bytes_start_end[2], &end) != napi_ok) return -EINVAL;
  /* Written so that NaN is refused. */
  if (!(start >= 0 && start <= end && end <= (double)length && start == (double)(size_t)start && end == (double)(size_t)end)) return -EINVAL;
  *range = (struct iovec){.iov_base = (char *)data + (size_t)start, .iov_len = (size_t)(end - start)};
  return 0;
}

/* read(fd, bytes, start, end) */
static napi_value vt_read(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, fd);
  struct iovec range;
  if (range_of(env, argv + 1, &range) != 0) return number(env, -EINVAL);
  return answer(env, read(fd, range.iov_base, range.iov_len));
}

/* write(fd, bytes, start, end) */
static napi_value vt_write(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, fd);
  struct iovec range;
  if (range_of(env, argv + 1, &range) != 0) return number(env, -EINVAL);
  return answer(env, write(fd, range.iov_base, range.iov_len));
}

/* The most that one message carries: SCM_MAX_FD, linux/include/net/scm.h */
enum { FDS_MAX = 253 };

/* sendmsg(fd, bytes, start, end, numbers, count): the first `count` of an Int32Array of descriptors go with the first byte */
static napi_value vt_sendmsg(napi_env env, napi_callback_info info) {
  ARGS(6);
  I32(0, fd);
  U32(5, count);
  struct iovec range;
  if (range_of(env, argv + 1, &range) != 0 || count > FDS_MAX || (count > 0 && range.iov_len == 0)) return number(env, -EINVAL);
  struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
  } control;
  if (count > 0) {
    int32_t *fds;
    if (int32s(env, argv[4], count, &fds) != 0) return number(env, -EINVAL);
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
  }
  return answer(env, sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

/*
 * recvmsg(fd, bytes, start, end, numbers): descriptors that came are written into an Int32Array: how many, then each. It is left alone when
 * there are none. When some were lost (MSG_CTRUNC: this process may not open that many) the others are closed: -EPROTO.
 */
static napi_value vt_recvmsg(napi_env env, napi_callback_info info) {
  ARGS(5);
  I32(0, fd);
  struct iovec range;
  if (range_of(env, argv + 1, &range) != 0 || range.iov_len == 0) return number(env, -EINVAL);
  /* Room for credentials too, which an inherited socket may be set to receive. */
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(256)];
  } control;
  struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received < 0) return number(env, -errno);
  if (message.msg_controllen == 0 && (message.msg_flags & MSG_CTRUNC) == 0) return number(env, received);

  int32_t fds[FDS_MAX + 1], *out;
  int count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || (header->cmsg_type != SCM_RIGHTS && header->cmsg_type != VT_SCM_PIDFD)) continue;
    int many = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < many; i++) {
      int one;
      memcpy(&one, CMSG_DATA(header) + (size_t)i * sizeof one, sizeof one);
      if (header->cmsg_type == SCM_RIGHTS && count < FDS_MAX) {
        fds[++count] = one;
      } else {
        close(one);
      }
    }
  }
  fds[0] = count;
  int error = (message.msg_flags & MSG_CTRUNC) != 0 ? -EPROTO : 0;
  if (error == 0 && count > 0) {
    error = int32s(env, argv[4], (size_t)count + 1, &out);
    if (error == 0) memcpy(out, fds, ((size_t)count + 1) * sizeof *fds);
  }
  if (error == 0) return number(env, received);
  for (int i = 1; i <= count; i++) close(fds[i]);
  return number(env, error);
}

/* memfd_create(name, flags) */
static napi_value vt_memfd_create(napi_env env, napi_callback_info info) {
  ARGS(2);
  char name[64];
  if (napi_get_value_string_utf8(env, argv[0], name, sizeof name, NULL) != napi_ok) return number(env, -EINVAL);
  U32(1, flags);
  return answer(env, memfd_create(name, flags));
}

/* ftruncate(fd, length) */
static napi_value vt_ftruncate(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I64(1, length);
  return answer(env, ftruncate(fd, length));
}

/*
 * The guard of memory whose file a peer has too. A peer that shortens the file (or whose file cannot be filled, or whose page is broken) turns
 * our next load or store into SIGBUS, which would end the process. Instead, private zeroed memory replaces the rest of that mapping, the
 * instruction goes on, and the fault is counted: the peer has lost what it took away, nobody else notices. The rest rather than a page, since
 * Linux limits the mappings of a process and a peer could have us use them all up.
 *
 * The handler calls mmap, sigaction and raise only. Its lock is safe: who holds it touches no guarded memory, so a thread never waits
 * for itself, and signals that somebody merely sent are not looked at.
 */
static atomic_flag guard_lock = ATOMIC_FLAG_INIT;
static struct mapping *guarded, *last_fault;
static uint32_t guarded_count;
static struct sigaction chained;
static int guard_installed;

static void guard_enter(void) {
  while (atomic_flag_test_and_set_explicit(&guard_lock, memory_order_acquire)) {
  }
}

static void guard_leave(void) { atomic_flag_clear_explicit(&guard_lock, memory_order_release); }

static int mapping_holds(const struct mapping *mapping, const char *address) {
  return mapping != NULL && address >= mapping->data && address < mapping->data + mapping->length;
}

static int replace(char *from, size_t length) {
  return mmap(from, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Whether the fault at `address` was in guarded memory, and is mended. */
static int guard_mend(char *address, int broken_page) {
  guard_enter();
  struct mapping *found = last_fault;
  if (!mapping_holds(found, address)) {
    for (found = guarded; found != NULL && !mapping_holds(found, address);) found = found->next_guarded;
  }
  int mended = 0;
  if (found != NULL) {
    last_fault = found;
    char *page = found->data + (size_t)(address - found->data) / found->page * found->page, *end = found->data + found->length;
    mended = replace(page, broken_page ? found->page : (size_t)(end - page));
    if (mended) atomic_fetch_add(&found->faults, 1);
  }
  guard_leave();
  return mended;
}

static void on_bus_error(int signal, siginfo_t *info, void *context) {
  int error = errno;
  int broken_page = info->si_code == BUS_MCEERR_AR;
  if ((info->si_code == BUS_ADRERR || broken_page) && guard_mend(info->si_addr, broken_page)) {
    errno = error;
    return;
  }
  errno = error;
  if ((chained.sa_flags & SA_SIGINFO) != 0) {
    chained.sa_sigaction(signal, info, context);
  } else if (chained.sa_handler != SIG_DFL && chained.sa_handler != SIG_IGN) {
    chained.sa_handler(signal);
  } else if (chained.sa_handler == SIG_DFL || info->si_code > 0) {
    /* As if we were not here. A fault comes again when its instruction does; a signal that was sent is sent once more. */
    sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    if (info->si_code <= 0) raise(signal);
  }
}

/* Whether there was room: no more than `limit` in the whole process. */
static int guard_add(struct mapping *mapping, uint32_t limit) {
  guard_enter();
  if (guarded_count >= limit) {
    guard_leave();
    return 0;
  }
  guarded_count++;
  if (!guard_installed) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    guard_installed = sigaction(SIGBUS, &action, &chained) == 0;
  }
  mapping->next_guarded = guarded;
  mapping->guarded_link = &guarded;
  if (guarded != NULL) guarded->guarded_link = &mapping->next_guarded;
  guarded = mapping;
  guard_leave();
  return 1;
}

static void guard_remove(struct mapping *mapping) {
  guard_enter();
  if (last_fault == mapping) last_fault = NULL;
  guarded_count--;
  *mapping->guarded_link = mapping->next_guarded;
  if (mapping->next_guarded != NULL) mapping->next_guarded->guarded_link = mapping->guarded_link;
  guard_leave();
}

static void mapping_free(struct mapping *mapping) {
  if (mapping->guarded_link != NULL) guard_remove(mapping);
  munmap(mapping->data, mapping->length);
  *mapping->link = mapping->next;
  if (mapping->next != NULL) mapping->next->link = mapping->link;
  free(mapping);
}

enum { MMAP_PRIVATE = 1, MMAP_GUARDED = 2 };

/*
 * mmap(fd, offset, length, page, how, limit): an ArrayBuffer over exactly these bytes of the file, or -errno. `page` is the file's page size, to
 * which the mapping extends on both sides. Always readable and writable: a store into an ArrayBuffer cannot fail, so a read-only mapping would be
 * a crash in waiting; a private one (1) keeps stores to itself. Guarded (2): see above, -ENOMEM when this process has `limit` of them. There is no
 * finalizer: munmap is called by the owner, never by the collector.
 */
static napi_value vt_mmap(napi_env env, napi_callback_info info) {
  ARGS(6);
  I32(0, fd);
  I64(1, offset);
  I64(2, length);
  I64(3, page);
  I32(4, how);
  U32(5, limit);
  if (offset < 0 || offset > 1LL << 60 || length <= 0 || length > 1LL << 46 || page < 4096 || page > 1LL << 40 || (page & (page - 1)) != 0) return number(env, -EINVAL);
  int64_t before = offset & (page - 1);
  size_t whole = (size_t)((before + length + page - 1) & -page);
  struct mapping *mapping = calloc(1, sizeof *mapping);
  if (mapping == NULL) return number(env, -ENOMEM);
  int flags = (how & MMAP_PRIVATE) != 0 ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
  char *data = mmap(NULL, whole, PROT_READ | PROT_WRITE, flags, fd, offset - before);
  if (data == MAP_FAILED) {
    int error = errno;
    free(mapping);
    return number(env, -error);
  }
  struct state *state = state_of(env);
  *mapping = (struct mapping){.next = state->mappings, .link = &state->mappings, .data = data, .length = whole, .page = (size_t)page};
  if (mapping->next != NULL) mapping->next->link = &mapping->next;
  state->mappings = mapping;
  if ((how & MMAP_GUARDED) != 0 && !guard_add(mapping, limit)) {
    mapping_free(mapping);
    return number(env, -ENOMEM);
  }

  napi_value buffer;
  napi_status status = napi_create_external_arraybuffer(env, data + before, (size_t)length, NULL, NULL, &buffer);
  if (status == napi_ok) {
    status = napi_type_tag_object(env, buffer, &mapping_tag);
    if (status == napi_ok) status = napi_wrap(env, buffer, mapping, NULL, NULL, NULL);
    if (status != napi_ok) napi_detach_arraybuffer(env, buffer);
  }
  if (status != napi_ok) {
    napi_value exception;
    napi_get_and_clear_last_exception(env, &exception);
    mapping_free(mapping);
    return number(env, -ENOMEM);
  }
  return buffer;
}

/* The mapping behind an ArrayBuffer that mmap made; NULL for any other value. */
static struct mapping *mapping_of(napi_env env, napi_value buffer) {
  bool ours = false;
  void *mapping;
  if (napi_is_arraybuffer(env, buffer, &ours) != napi_ok || !ours) return NULL;
  if (napi_check_object_type_tag(env, buffer, &mapping_tag, &ours) != napi_ok || !ours) return NULL;
  return napi_unwrap(env, buffer, &mapping) == napi_ok ? mapping : NULL;
}

/* mappingFaults(buffer): how often guarded memory was replaced */
static napi_value vt_mapping_faults(napi_env env, napi_callback_info info) {
  ARGS(1);
  struct mapping *mapping = mapping_of(env, argv[0]);
  return number(env, mapping == NULL ? -EINVAL : (int64_t)atomic_load(&mapping->faults));
}

/* munmap(buffer): detaches the ArrayBuffer first, so that every view of it is empty before the pages go. -EINVAL for one that is not ours. */
static napi_value vt_munmap(napi_env env, napi_callback_info info) {
  ARGS(1);
  struct mapping *mapping = mapping_of(env, argv[0]);
  if (mapping == NULL) return number(env, -EINVAL);
  if (napi_detach_arraybuffer(env, argv[0]) != napi_ok) return number(env, -EINVAL);
  napi_remove_wrap(env, argv[0], NULL);
  mapping_free(mapping);
  return number(env, 0);
}

static struct watcher **watcher_slot(struct state *state, int fd) {
  return fd >= 0 && fd < state->watcher_slots && state->watchers[fd] != NULL ? &state->watchers[fd] : NULL;
}

static void on_closed(uv_handle_t *handle) {
  struct watcher *watcher = uv_handle_get_data(handle);
  napi_remove_async_cleanup_hook(watcher->hook);
  free(watcher->handle);
  free(watcher);
}

/* libuv forgets the descriptor at once, so that it may be closed right after; the memory goes when the close callback has run. */
static void watcher_close(struct watcher *watcher) {
  if (watcher->closing) return;
  watcher->closing = 1;
  watcher->events = 0;
  state_of(watcher->env)->watchers[watcher->fd] = NULL;
  for (int i = 0; i < 2; i++) {
    if (watcher->callbacks[i] != NULL) napi_delete_reference(watcher->env, watcher->callbacks[i]);
  }
  uv_close((uv_handle_t *)watcher->handle, on_closed);
}

/* The environment ends with the watcher alive: a handle left on the loop would abort the worker. */
static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  watcher_close(data);
}

/* One call into JavaScript, microtasks included. Whether it returned true, and still wants to be called. */
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

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/*
 * Wait for the next readiness right here instead of unwinding to the event loop. The loop is not kept waiting: it gets its turn as soon as
 * it has anything to do and this descriptor has not (poll says so), before a timer is due or anything is queued (uv_backend_timeout is 0 then,
 * also while libuv has not told epoll of a new descriptor), and after STICKY_CALLS calls or STICKY_NS without an idle moment. The readiness
 * of its epoll descriptor is only looked at, never taken: libuv may hold edge-triggered entries there.
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
    if (poll(ready, 2, timeout) <= 0 || ready[0].revents == 0) return;
    int64_t after = now_ns();
    if (after - before > STICKY_IDLE_NS) turn = after; /* nobody was kept waiting until now */
    if (!watcher_call(watcher, VT_UV_READABLE)) return;
  }
}

static void on_event(uv_poll_t *handle, int status, int events) {
  struct watcher *watcher = uv_handle_get_data((uv_handle_t *)handle);
  /* An error on the descriptor, such as a connection reset: libuv has stopped polling. What it is, the callback learns by reading. */
  if (status < 0) events = VT_UV_READABLE | VT_UV_WRITABLE;
  if ((events & watcher->events & VT_UV_WRITABLE) != 0) watcher_call(watcher, VT_UV_WRITABLE);
  if ((events & watcher->events & VT_UV_READABLE) != 0 && watcher_call(watcher, VT_UV_READABLE)) watcher_stick(watcher);
  if (status < 0 && !watcher->closing) uv_poll_start(handle, watcher->events, on_event);
}

/* A watcher on its way into the table, for an event that nobody asks for yet. */
static int watcher_new(napi_env env, struct state *state, int fd, struct watcher **made) {
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
  watcher_close(watcher);
  return -ENOMEM;
}

/*
 * watchStart(fd, event, callback): call `callback` from the event loop while the descriptor is readable (1) or writable (2). One that answers
 * true to "readable" is called again as described above. The loop stays alive for it. -EEXIST when the event is watched already, -EPERM for
 * files, which are always ready. libuv makes the descriptor non-blocking.
 */
static napi_value vt_watch_start(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I32(1, event);
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
    watcher->events |= event;
  } else if (watcher->events == 0) {
    watcher_close(watcher);
  } else if (watcher->callbacks[event - 1] != NULL) {
    napi_delete_reference(env, watcher->callbacks[event - 1]);
    watcher->callbacks[event - 1] = NULL;
  }
  return number(env, error);
}

/* watchStop(fd, event): no such call comes after this returns. Once neither event is watched, the descriptor may be closed. */
static napi_value vt_watch_stop(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, event);
  struct watcher **slot = watcher_slot(state_of(env), fd);
  if (slot == NULL || (event != VT_UV_READABLE && event != VT_UV_WRITABLE)) return number(env, slot == NULL ? -ENOENT : -EINVAL);
  struct watcher *watcher = *slot;
  if ((watcher->events & event) == 0) return number(env, -ENOENT);
  if (watcher->events == event) {
    watcher_close(watcher);
    return number(env, 0);
  }
  watcher->events &= ~event;
  napi_delete_reference(env, watcher->callbacks[event - 1]);
  watcher->callbacks[event - 1] = NULL;
  return number(env, uv_poll_start(watcher->handle, watcher->events, on_event));
}

/* watchRef(fd, on): whether this watcher keeps the event loop alive. */
static napi_value vt_watch_ref(napi_env env, napi_callback_info info) {
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

static const struct {
  const char *name;
  napi_callback function;
} functions[] = {
    {"close", vt_close},
    {"fcntl", vt_fcntl},
    {"poll", vt_poll},
    {"pollEither", vt_poll_either},
    {"eventfd", vt_eventfd},
    {"eventfdRead", vt_eventfd_read},
    {"eventfdWrite", vt_eventfd_write},
    {"socketpair", vt_socketpair},
    {"socket", vt_socket},
    {"bind", vt_bind},
    {"connect", vt_connect},
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
    {"memfdCreate", vt_memfd_create},
    {"ftruncate", vt_ftruncate},
    {"mmap", vt_mmap},
    {"munmap", vt_munmap},
    {"mappingFaults", vt_mapping_faults},
    {"watchStart", vt_watch_start},
    {"watchStop", vt_watch_stop},
    {"watchRef", vt_watch_ref},
};

/* Watchers are gone by now: their hooks ran before. */
static void state_free(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct state *state = data;
  while (state->mappings != NULL) mapping_free(state->mappings);
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

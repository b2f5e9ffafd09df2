/* Sockets, the descriptors that travel over them, and plain reads and writes. */
#include "addon.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { VT_SCM_PIDFD = 4 }; /* linux/socket.h, since 6.5 */

/* socketpair of connected stream sockets: pair(numbers) fills two numbers in */
napi_value vt_socketpair(napi_env env, napi_callback_info info) {
  ARGS(1);
  int32_t *pair;
  if (int32s(env, argv[0], 2, &pair) != 0) return number(env, -EINVAL);
  return answer(env, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
}

/* socket(domain, type): one that does not block */
napi_value vt_socket(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, domain);
  I32(1, type);
  return answer(env, socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

/*
 * A path as an address; -EINVAL for one that is empty, does not fit, or has a NUL in it, which
 * would make it another path.
 */
static int address_of(napi_env env, napi_value path, struct sockaddr_un *address) {
  size_t length;
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (napi_get_value_string_utf8(env, path, NULL, 0, &length) != napi_ok || length == 0 || length >= sizeof address->sun_path) return -EINVAL;
  napi_get_value_string_utf8(env, path, address->sun_path, sizeof address->sun_path, &length);
  return strlen(address->sun_path) == length ? 0 : -EINVAL;
}

/* bind(fd, path) */
napi_value vt_bind(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  struct sockaddr_un address;
  if (address_of(env, argv[1], &address) != 0) return number(env, -EINVAL);
  return answer(env, bind(fd, (struct sockaddr *)&address, sizeof address));
}

/* connect(fd, path) */
napi_value vt_connect(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  struct sockaddr_un address;
  if (address_of(env, argv[1], &address) != 0) return number(env, -EINVAL);
  return answer(env, connect(fd, (struct sockaddr *)&address, sizeof address));
}

/*
 * connectAbstract(fd, name): to a socket whose address is a name that no file system has (unix(7)),
 * which begins with a NUL in the kernel's form
 */
napi_value vt_connect_abstract(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length;
  if (napi_get_value_string_utf8(env, argv[1], NULL, 0, &length) != napi_ok || length == 0 || length >= sizeof address.sun_path - 1) return number(env, -EINVAL);
  napi_get_value_string_utf8(env, argv[1], address.sun_path + 1, sizeof address.sun_path - 1, &length);
  return answer(env, connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)));
}

/* An address in figures, of IPv4 or IPv6, and a port: its length, or -EINVAL. */
static int inet_address_of(napi_env env, napi_value text, uint32_t port, struct sockaddr_storage *address) {
  char figures[INET6_ADDRSTRLEN];
  size_t length;
  memset(address, 0, sizeof *address);
  if (port > 65535 || napi_get_value_string_utf8(env, text, NULL, 0, &length) != napi_ok || length >= sizeof figures) return -EINVAL;
  napi_get_value_string_utf8(env, text, figures, sizeof figures, &length);
  if (strlen(figures) != length) return -EINVAL;
  struct sockaddr_in *four = (struct sockaddr_in *)address;
  if (inet_pton(AF_INET, figures, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)port);
    return sizeof *four;
  }
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
  if (inet_pton(AF_INET6, figures, &six->sin6_addr) != 1) return -EINVAL;
  six->sin6_family = AF_INET6;
  six->sin6_port = htons((uint16_t)port);
  return sizeof *six;
}

/* bindInet(fd, address, port) */
napi_value vt_bind_inet(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  U32(2, port);
  struct sockaddr_storage address;
  int length = inet_address_of(env, argv[1], port, &address);
  return length < 0 ? number(env, length) : answer(env, bind(fd, (struct sockaddr *)&address, (socklen_t)length));
}

/* connectInet(fd, address, port): -EINPROGRESS while it goes on */
napi_value vt_connect_inet(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  U32(2, port);
  struct sockaddr_storage address;
  int length = inet_address_of(env, argv[1], port, &address);
  return length < 0 ? number(env, length) : answer(env, connect(fd, (struct sockaddr *)&address, (socklen_t)length));
}

/* setsockopt(fd, level, option, value) of a number */
napi_value vt_setsockopt(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, fd);
  I32(1, level);
  I32(2, option);
  int value;
  if (napi_get_value_int32(env, argv[3], &value) != napi_ok) return number(env, -EINVAL);
  return answer(env, setsockopt(fd, level, option, &value, sizeof value));
}

/* listen(fd, backlog) */
napi_value vt_listen(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, backlog);
  return answer(env, listen(fd, backlog));
}

/* accept(fd): a connection that does not block */
napi_value vt_accept(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  return answer(env, accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

/* getsockopt(fd, option) of a number at SOL_SOCKET */
napi_value vt_getsockopt(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, option);
  int value = 0;
  socklen_t size = sizeof value;
  return answer(env, getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0 ? -1 : value);
}

/* getsockopt(fd, SO_PEERCRED): fills pid, uid, gid in */
napi_value vt_peer_credentials(napi_env env, napi_callback_info info) {
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
napi_value vt_flock(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, operation);
  return answer(env, flock(fd, operation));
}

/* shutdown(fd, how) */
napi_value vt_shutdown(napi_env env, napi_callback_info info) {
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
  /* In this form the check refuses NaN. */
  if (!(start >= 0 && start <= end && end <= (double)length && start == (double)(size_t)start && end == (double)(size_t)end)) return -EINVAL;
  *range = (struct iovec){.iov_base = (char *)data + (size_t)start, .iov_len = (size_t)(end - start)};
  return 0;
}

/* read(fd, bytes, start, end) */
napi_value vt_read(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, fd);
  struct iovec range;
  if (range_of(env, argv + 1, &range) != 0) return number(env, -EINVAL);
  return answer(env, read(fd, range.iov_base, range.iov_len));
}

/* write(fd, bytes, start, end) */
napi_value vt_write(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, fd);
  struct iovec range;
  if (range_of(env, argv + 1, &range) != 0) return number(env, -EINVAL);
  return answer(env, write(fd, range.iov_base, range.iov_len));
}

/* The most that one message carries: SCM_MAX_FD, linux/include/net/scm.h */
enum { FDS_MAX = 253 };

/*
 * sendmsg(fd, bytes, start, end, numbers, count): the first `count` of an Int32Array of descriptors
 * go with the first byte
 */
napi_value vt_sendmsg(napi_env env, napi_callback_info info) {
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

/* Room for credentials too, which an inherited socket may be set to receive. */
union control {
  struct cmsghdr header;
  char space[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(256)];
};

/*
 * Descriptors of a message go into fds[1] and on, and their number into fds[0]; other descriptors
 * of the message are closed.
 */
static void descriptors_of(struct msghdr *message, int32_t *fds) {
  int count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || (header->cmsg_type != SCM_RIGHTS && header->cmsg_type != VT_SCM_PIDFD)) continue;
    int many = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < many; i++) {
      int one;
      memcpy(&one, CMSG_DATA(header) + (size_t)i * sizeof one, sizeof one);
      if (header->cmsg_type == SCM_RIGHTS && count < FDS_MAX) {
        fds[++count] = one;
      } else {
        close_foreign(one);
      }
    }
  }
  fds[0] = count;
}

/*
 * closeSocket(fd): a connected socket that no other process has. The function first takes out the
 * descriptors that the peer sent and this process did not receive: otherwise the kernel would close
 * them with the socket, here and now.
 */
napi_value vt_close_socket(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  owned_forget(env, fd);
  if (shutdown(fd, SHUT_RDWR) == 0) {
    for (;;) {
      static char bytes[65536];
      struct iovec range = {.iov_base = bytes, .iov_len = sizeof bytes};
      union control control;
      struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
      if (recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) break;
      int32_t fds[FDS_MAX + 1];
      descriptors_of(&message, fds);
      for (int i = 1; i <= fds[0]; i++) close_foreign(fds[i]);
    }
  }
  return answer(env, close(fd));
}

/*
 * recvmsg(fd, bytes, start, end, numbers): writes descriptors that came into an Int32Array: how
 * many, then each. The array stays as it was when there are none. When some were lost (MSG_CTRUNC:
 * this process may not open that many) the function closes the others: -EPROTO.
 */
napi_value vt_recvmsg(napi_env env, napi_callback_info info) {
  ARGS(5);
  I32(0, fd);
  struct iovec range;
  if (range_of(env, argv + 1, &range) != 0 || range.iov_len == 0) return number(env, -EINVAL);
  union control control;
  struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received < 0) return number(env, -errno);
  if (message.msg_controllen == 0 && (message.msg_flags & MSG_CTRUNC) == 0) return number(env, received);

  int32_t fds[FDS_MAX + 1], *out;
  descriptors_of(&message, fds);
  const int count = fds[0];
  int error = (message.msg_flags & MSG_CTRUNC) != 0 ? -EPROTO : 0;
  if (error == 0 && count > 0) {
    error = int32s(env, argv[4], (size_t)count + 1, &out);
    if (error == 0) memcpy(out, fds, ((size_t)count + 1) * sizeof *fds);
  }
  if (error == 0) return number(env, received);
  for (int i = 1; i <= count; i++) close_foreign(fds[i]);
  return number(env, error);
}

/*
 * Notifications of a seccomp filter: a system call of a program, which waits until it is answered.
 *
 * @see seccomp_unotify(2); linux/kernel/seccomp.c, seccomp_notify_ioctl()
 */
#include "addon.h"

#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* since 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

/* The bytes of a notification; NULL when the argument is no Uint8Array of its size. */
static struct seccomp_notif *notif_of(napi_env env, napi_value array) {
  napi_typedarray_type type;
  size_t length;
  void *bytes;
  if (napi_get_typedarray_info(env, array, &type, &length, &bytes, NULL, NULL) != napi_ok) return NULL;
  return type == napi_uint8_array && length == sizeof(struct seccomp_notif) ? bytes : NULL;
}

/*
 * notifReceive(listener, news, notification): 0 when there is one, 1 when there also is something
 * to read from descriptor `news`; -EAGAIN when there is none; -ENOENT when its process died; -EPIPE
 * when no process has the filter any more. Never waits.
 */
napi_value vt_notif_receive(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, listener);
  I32(1, news);
  struct seccomp_notif *notif = notif_of(env, argv[2]);
  if (notif == NULL) return number(env, -EINVAL);
  struct pollfd both[2] = {{.fd = listener, .events = POLLIN}, {.fd = news, .events = POLLIN}};
  if (poll(both, 2, 0) < 0) return number(env, -errno);
  /* NOTIF_RECV waits where there is none; one that vanishes after the poll is -ENOENT. */
  if ((both[0].revents & POLLIN) == 0) return number(env, (both[0].revents & POLLHUP) != 0 ? -EPIPE : -EAGAIN);
  memset(notif, 0, sizeof *notif);
  const int received = ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notif);
  return answer(env, received < 0 ? received : both[1].revents != 0);
}

/*
 * notifSend(listener, notification, value, error, flags): ends the call with `value`, or with the
 * negative errno `error`, or lets it happen (SECCOMP_USER_NOTIF_FLAG_CONTINUE). -ENOENT when its
 * process died.
 */
napi_value vt_notif_send(napi_env env, napi_callback_info info) {
  ARGS(5);
  I32(0, listener);
  I64(2, value);
  I32(3, error);
  U32(4, flags);
  const struct seccomp_notif *notif = notif_of(env, argv[1]);
  if (notif == NULL) return number(env, -EINVAL);
  struct seccomp_notif_resp response = {.id = notif->id, .val = value, .error = error, .flags = flags};
  return answer(env, ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response));
}

/*
 * notifAddFd(listener, notification, fd, at, flags): a copy of our descriptor `fd` for the process;
 * its number there. At number `at`, the lowest free one for -1. `flags`: O_CLOEXEC or 0.
 */
napi_value vt_notif_add_fd(napi_env env, napi_callback_info info) {
  ARGS(5);
  I32(0, listener);
  I32(2, fd);
  I32(3, at);
  U32(4, descriptor_flags);
  const struct seccomp_notif *notif = notif_of(env, argv[1]);
  if (notif == NULL) return number(env, -EINVAL);
  struct seccomp_notif_addfd add = {
      .id = notif->id,
      .flags = at >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0,
      .srcfd = (uint32_t)fd,
      .newfd = at >= 0 ? (uint32_t)at : 0,
      .newfd_flags = descriptor_flags,
  };
  return answer(env, ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add));
}

/* notifSetFlags(listener, flags): SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP; -EINVAL before Linux 6.6 */
napi_value vt_notif_set_flags(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, listener);
  U32(1, flags);
  return answer(env, ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (unsigned long)flags));
}

/*
 * Descriptors that a peer has sent. Closing one can wait for as long as the peer likes: FUSE asks
 * the file system at each close (FLUSH, and a signal does not end that), TCP waits until its data
 * is sent (SO_LINGER), a terminal waits for its output. Closing memory and eventfds cannot wait, so
 * this thread closes them at once. A closing process closes every other descriptor.
 *
 * A closing process shares our memory and descriptors. There is one for each descriptor, with a
 * thread that waits for it. A thread of ours that hung in close() would keep this process from
 * ending.
 */
#include "addon.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK_BYTES = 65536, CLOSERS_MAX = 64 };

struct closing {
  struct closing *next;
  int fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct closing *first, **last = &first;
static int closers;
static atomic_int closing_count;

static int is_eventfd(int fd) {
  static const char eventfd_name[] = "anon_inode:[eventfd]";
  char path[32], name[sizeof eventfd_name];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  /* The kernel itself makes the link and asks no file system; a file's path begins with a slash. */
  ssize_t length = readlink(path, name, sizeof name);
  return length == sizeof eventfd_name - 1 && memcmp(name, eventfd_name, sizeof eventfd_name - 1) == 0;
}

/*
 * F_GET_SEALS looks at the kind of file, and asks no file system: linux/mm/memfd.c, memfd_fcntl().
 */
static int cannot_wait(int fd) { return fcntl(fd, F_GET_SEALS) >= 0 || is_eventfd(fd); }

static int close_it(void *fd) {
  close(*(int *)fd);
  return 0;
}

static void close_elsewhere(int fd, char *stack) {
  const pid_t child = stack == NULL ? -1 : clone(close_it, stack + STACK_BYTES, CLONE_VM | CLONE_FILES, &fd);
  if (child < 0) {
    close(fd);
    return;
  }
  while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR) {
  }
}

static void *closer(void *unused) {
  (void)unused;
  char *stack = malloc(STACK_BYTES);
  for (;;) {
    pthread_mutex_lock(&lock);
    struct closing *one = first;
    if (one == NULL) {
      closers--;
      pthread_mutex_unlock(&lock);
      break;
    }
    first = one->next;
    if (first == NULL) last = &first;
    pthread_mutex_unlock(&lock);
    close_elsewhere(one->fd, stack);
    free(one);
    atomic_fetch_sub(&closing_count, 1);
  }
  free(stack);
  return NULL;
}

static int start_closer(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  /* The closing process inherits this mask: signals for our group must not reach it. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread, &attributes, closer, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}

void close_foreign(int fd) {
  if (fd < 0) return;
  struct closing *one = cannot_wait(fd) ? NULL : malloc(sizeof *one);
  if (one == NULL) {
    close(fd);
    return;
  }
  *one = (struct closing){.fd = fd};
  atomic_fetch_add(&closing_count, 1);
  pthread_mutex_lock(&lock);
  *last = one;
  last = &one->next;
  if (closers < CLOSERS_MAX && start_closer() == 0) closers++;
  pthread_mutex_unlock(&lock);
}

/* closeForeign(fd) */
napi_value vt_close_foreign(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  owned_forget(env, fd);
  close_foreign(fd);
  return number(env, 0);
}

/* cannotWait(fd): 1 for memory and eventfds */
napi_value vt_cannot_wait(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  return number(env, cannot_wait(fd));
}

/*
 * closing(least): the number of descriptors that are not closed yet, 0 when it is less than `least`
 */
napi_value vt_closing(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, least);
  const int count = atomic_load(&closing_count);
  return number(env, count < least ? 0 : count);
}

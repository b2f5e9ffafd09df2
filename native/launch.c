/*
 * A program under a seccomp filter whose notifications come here: clone, preparations, execve.
 *
 * The child shares our memory and descriptors until execve, and this thread waits for that
 * (CLONE_VFORK). So its listener is a descriptor of ours as soon as it exists, and a failure is a
 * number in memory. Just before execve the child gets a table of descriptors of its own. Between
 * clone and execve the child makes system calls only: locks of other threads do not matter to it.
 */
#include "addon.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* linux/seccomp.h, since 5.19 */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

enum { STACK_BYTES = 65536, STEP_WORDS = 6, SIGNALS = 64 };

struct launch {
  const char *path;
  char **argv, **envp, **steps;
  size_t step_count;
  struct sock_fprog filter;
  pid_t parent;
  /* The child reports here. */
  volatile int listener, error;
  volatile size_t at;
};

/* One file written whole: the maps of a user namespace. */
static int write_file(const char *path, const char *text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const size_t length = strlen(text);
  const ssize_t written = write(fd, text, length);
  const int error = errno;
  close(fd);
  errno = written < 0 ? error : EIO;
  return written == (ssize_t)length ? 0 : -1;
}

/*
 * A preparation: its kind, and up to five words.
 *
 *   mount  source target type flags data   (mount(2); an empty word is NULL, flags are a number)
 *   write  path text
 *   tracer pid                             (PR_SET_PTRACER; nothing to do without Yama: EINVAL)
 */
static int step(char **word) {
  const char *kind = word[0];
  if (strcmp(kind, "mount") == 0) {
    const char *given[6];
    for (int i = 0; i < STEP_WORDS; i++) given[i] = word[i][0] == '\0' ? NULL : word[i];
    return mount(given[1], given[2], given[3], strtoul(word[4], NULL, 0), given[5]);
  }
  if (strcmp(kind, "write") == 0) return write_file(word[1], word[2]);
  if (strcmp(kind, "tracer") == 0) return prctl(PR_SET_PTRACER, strtoul(word[1], NULL, 0), 0, 0, 0) == 0 || errno == EINVAL ? 0 : -1;
  errno = EINVAL;
  return -1;
}

/* Failures are counted on from the steps: no_new_privs, the filter, execve. */
static int child(void *data) {
  struct launch *launch = data;
  launch->error = 0;
  /* The program ends with its kernel. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launch->parent) _exit(127);
  for (int i = 1; i <= SIGNALS; i++) signal(i, SIG_DFL);
  for (launch->at = 0; launch->at < launch->step_count; launch->at++) {
    if (step(launch->steps + launch->at * STEP_WORDS) != 0) goto failed;
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) goto failed;
  launch->at++;
  const long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &launch->filter);
  if (listener < 0) goto failed;
  launch->listener = (int)listener;
  launch->at++;
  /* A table of its own: Node has made its standard streams close on exec. */
  if (unshare(CLONE_FILES) != 0) goto failed;
  for (int fd = 0; fd <= STDERR_FILENO; fd++) fcntl(fd, F_SETFD, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  /*
   * The filter stops execve and execveat, and this thread would answer. It lets -1 pass, which
   * means nothing beside an absolute path.
   */
  syscall(SYS_execveat, -1, launch->path, launch->argv, launch->envp, 0);
failed:
  launch->error = errno;
  _exit(127);
}

/* An array of strings as C has it, in one block; NULL when it is none. */
static char **strings(napi_env env, napi_value array, uint32_t *count) {
  if (napi_get_array_length(env, array, count) != napi_ok) return NULL;
  size_t bytes = (*count + 1) * sizeof(char *), length;
  char **block = NULL;
  for (int fill = 0; fill < 2; fill++) {
    char *at = (char *)(block + *count + 1);
    for (uint32_t i = 0; i < *count; i++) {
      napi_value text;
      if (napi_get_element(env, array, i, &text) != napi_ok || napi_get_value_string_utf8(env, text, NULL, 0, &length) != napi_ok) {
        free(block);
        return NULL;
      }
      if (fill) {
        napi_get_value_string_utf8(env, text, at, length + 1, &length);
        block[i] = at;
        at += length + 1;
      } else {
        bytes += length + 1;
      }
    }
    if (!fill && (block = malloc(bytes)) == NULL) return NULL;
  }
  block[*count] = NULL;
  return block;
}

static pid_t start(struct launch *launch, int flags, int *pidfd) {
  char *stack = malloc(STACK_BYTES);
  if (stack == NULL) {
    errno = ENOMEM;
    return -1;
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = clone(child, stack + STACK_BYTES, flags | CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD | SIGCHLD, launch, pidfd);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  free(stack);
  errno = error;
  return pid;
}

/*
 * launch(path, argv, envp, steps, filter, flags, into): starts the program behind a filter, a
 * `struct sock_filter` each 8 bytes. `flags` are those of clone(2) that make namespaces. `into`
 * gets pid, pidfd, listener, and the number of the preparation that failed: 6 words of `steps`
 * each, then no_new_privs, the filter, execve; -1 for the clone. 0, or the -errno of what failed.
 */
napi_value vt_launch(napi_env env, napi_callback_info info) {
  ARGS(7);
  I32(5, flags);
  int32_t *into;
  char path[4096];
  size_t length;
  uint8_t *filter;
  napi_typedarray_type type;
  if (int32s(env, argv[6], 4, &into) != 0 || napi_get_value_string_utf8(env, argv[0], path, sizeof path, &length) != napi_ok) return number(env, -EINVAL);
  if (napi_get_typedarray_info(env, argv[4], &type, &length, (void **)&filter, NULL, NULL) != napi_ok || type != napi_uint8_array ||
      length % sizeof(struct sock_filter) != 0 || length / sizeof(struct sock_filter) > BPF_MAXINSNS || (flags & ~(CLONE_NEWNS | CLONE_NEWUSER)) != 0) {
    return number(env, -EINVAL);
  }
  struct launch launch = {
      .path = path,
      .filter = {.len = (unsigned short)(length / sizeof(struct sock_filter)), .filter = (struct sock_filter *)filter},
      .parent = getpid(),
      .listener = -1,
  };
  uint32_t count = 0, step_words = 0;
  launch.argv = strings(env, argv[1], &count);
  launch.envp = strings(env, argv[2], &count);
  launch.steps = strings(env, argv[3], &step_words);
  launch.step_count = step_words / STEP_WORDS;
  int result = -EINVAL, pidfd = -1;
  if (launch.argv != NULL && launch.envp != NULL && launch.steps != NULL && step_words % STEP_WORDS == 0) {
    const pid_t pid = start(&launch, flags, &pidfd);
    into[0] = pid;
    into[3] = -1;
    result = pid < 0 ? -errno : -launch.error;
    if (pid >= 0 && result != 0) {
      into[3] = (int32_t)launch.at;
      if (launch.listener >= 0) close(launch.listener);
      close(pidfd);
      while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) {
      }
    }
    into[1] = pidfd;
    into[2] = launch.listener;
  }
  free(launch.argv);
  free(launch.envp);
  free(launch.steps);
  return number(env, result);
}

/*
 * Signals of eventfds. We must not write to an eventfd that other processes have, too. Its counter
 * may be full, and a peer may have made the open file blocking, or do both between a check and the
 * write. RWF_NOWAIT is no help, since eventfds have no write_iter (linux/fs/eventfd.c). The kernel
 * itself signals without waiting, as it does for VFIO: at the end of an asynchronous read whose
 * iocb names the eventfd. So we read nothing from /dev/null.
 */
#include "addon.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The ring that io_setup maps, at the address that is its number: linux/fs/aio.c, struct aio_ring.
 * Programs that take events themselves rely on it.
 */
enum { RING_MAGIC = 0xa10a10a1 };
struct ring {
  uint32_t id, count, head, tail, magic;
};

struct signaller {
  aio_context_t context; /* 0: this kernel has none for this process */
  int null_fd;
};

static struct signaller *signaller_of(struct state *state) {
  if (state->signaller != NULL) return state->signaller;
  struct signaller *made = malloc(sizeof *made);
  if (made == NULL) return NULL;
  *made = (struct signaller){.null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
  if (made->null_fd >= 0 && syscall(SYS_io_setup, 1, &made->context) == 0) {
    const struct ring *ring = (const struct ring *)made->context;
    if (ring->magic != RING_MAGIC) {
      syscall(SYS_io_destroy, made->context);
      made->context = 0;
    }
  }
  state->signaller = made;
  return made;
}

void signaller_free(struct state *state) {
  struct signaller *one = state->signaller;
  if (one == NULL) return;
  state->signaller = NULL;
  if (one->context != 0) syscall(SYS_io_destroy, one->context);
  if (one->null_fd >= 0) close(one->null_fd);
  free(one);
}

static int write_one(int fd) {
  uint64_t value = 1;
  return write(fd, &value, sizeof value) < 0 ? -errno : 0;
}

/*
 * For a kernel without asynchronous I/O for this process: check whether the counter is full before
 * the write. The check holds unless another process fills the counter in between.
 */
static int ask_and_write(int fd) {
  struct pollfd one = {.fd = fd, .events = POLLOUT};
  if (poll(&one, 1, 0) < 0) return -errno;
  if (one.revents != POLLOUT) return one.revents & POLLNVAL ? -EBADF : -EAGAIN;
  return write_one(fd);
}

static int signal_shared(struct signaller *signaller, int fd) {
  if (signaller == NULL || signaller->context == 0) return ask_and_write(fd);
  struct iocb nothing = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)signaller->null_fd, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = (uint32_t)fd};
  struct iocb *one = &nothing;
  if (syscall(SYS_io_submit, signaller->context, 1, &one) < 0) return errno == EBADF || errno == EINVAL ? -errno : ask_and_write(fd);
  /* The read has ended. Take its event, which has no reader. */
  struct ring *ring = (struct ring *)signaller->context;
  __atomic_store_n(&ring->head, __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
  return 0;
}

/* eventfdSignal(fd, shared): add one. `shared`: other processes have the open file, too */
napi_value vt_eventfd_signal(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I32(1, shared);
  return number(env, shared ? signal_shared(signaller_of(state_of(env)), fd) : write_one(fd));
}

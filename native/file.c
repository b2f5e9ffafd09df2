/*
 * Files that back disks: reads and writes that do not wait, locks, and threads for operations that
 * have to wait. The threads run the operations that they get and nothing else. src/sys decides
 * which form is tried first, which flushes share a sync, and the meaning of an error.
 */
#include "addon.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>

enum { THREADS_MAX = 64, STACK_BYTES = 256 * 1024, ZEROES_BYTES = 64 * 1024, PARTS_MAX = 256 };
/* Added to the errno when the write reached the page cache and the disk did not keep it. */
enum { SYNC_FAILED = 0x10000 };
enum kind { KIND_READ, KIND_WRITE, KIND_WRITE_DURABLE, KIND_SYNC, KIND_ZERO, KIND_DISCARD, KIND_APPEND, KINDS };

struct operation {
  struct operation *next;
  int64_t offset, size;
  uint8_t *bytes; /* src/sys keeps it alive until `fileReap` has reported the result */
  int32_t slot, result;
  enum kind kind;
};

struct list {
  struct operation *first, *last;
  int count;
};

struct file {
  pthread_mutex_t lock;
  pthread_cond_t work, ended;
  /*
   * `slow` are operations that wait for the disk, on as many threads as there are. `cached` are
   * those that go to the page cache, one at a time: the kernel holds a lock on the file for them,
   * and threads that wait for that lock only take the CPU from others.
   */
  struct list slow, cached, done;
  int caching; /* a thread runs one of `cached` */
  int fd, event_fd; /* src/sys closes them; when its environment is gone, we do */
  int running, idle, threads, threads_max, stopping;
  int fresh;    /* `done` has something; read without the lock */
  int awaiting; /* the event loop's thread looks at `fresh` right now, and needs no eventfd */
  struct spin spin;
  pthread_t ids[THREADS_MAX];
};

static void append(struct list *list, struct operation *operation) {
  operation->next = NULL;
  if (list->last != NULL) {
    list->last->next = operation;
  } else {
    list->first = operation;
  }
  list->last = operation;
  list->count++;
}

static struct operation *take(struct list *list) {
  struct operation *operation = list->first;
  if (operation == NULL) return NULL;
  list->first = operation->next;
  if (list->first == NULL) list->last = NULL;
  list->count--;
  return operation;
}

/*
 * All of it, in as many steps as the kernel makes. A file that ends too early is an error: it has
 * become shorter.
 */
static int32_t transfer(int fd, uint8_t *bytes, int64_t size, int64_t offset, int writing, int flags) {
  while (size > 0) {
    struct iovec all = {.iov_base = bytes, .iov_len = (size_t)size};
    ssize_t moved = writing ? pwritev2(fd, &all, 1, offset, flags) : preadv2(fd, &all, 1, offset, flags);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return -errno;
    if (moved == 0) return -EIO;
    bytes += moved;
    offset += moved;
    size -= moved;
  }
  return 0;
}

static int32_t sync_data(int fd) {
  while (fdatasync(fd) != 0) {
    if (errno != EINTR) return -(errno | SYNC_FAILED);
  }
  return 0;
}

/*
 * The data is on the disk when this returns. RWF_DSYNC returns one errno for two different
 * failures; another write shows which it was.
 */
static int32_t write_durable(int fd, uint8_t *bytes, int64_t size, int64_t offset) {
  int32_t error = transfer(fd, bytes, size, offset, 1, RWF_DSYNC);
  if (error == 0) return 0;
  int32_t plain = transfer(fd, bytes, size, offset, 1, 0);
  if (plain != 0) return plain;
  return error == -EOPNOTSUPP || error == -ENOSYS ? sync_data(fd) : -(-error | SYNC_FAILED);
}

static int allocate(int fd, int mode, int64_t offset, int64_t size) {
  for (;;) {
    if (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, offset, size) == 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

/*
 * The bytes read as zeroes afterwards: by a hole or by marking them. Where the filesystem has
 * neither, or the disk wants other boundaries, by writing zeroes.
 */
static int32_t zero(struct file *file, int64_t offset, int64_t size, int discard) {
  static uint8_t zeroes[ZEROES_BYTES];
  int first = discard ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE, second = discard ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
  int error = allocate(file->fd, first, offset, size);
  if (error == -EOPNOTSUPP || error == -EINVAL || error == -ENOSYS) error = allocate(file->fd, second, offset, size);
  if (error != -EOPNOTSUPP && error != -EINVAL && error != -ENOSYS) return error;
  while (size > 0) {
    int64_t count = size < ZEROES_BYTES ? size : ZEROES_BYTES;
    error = __atomic_load_n(&file->stopping, __ATOMIC_RELAXED) ? -EIO : transfer(file->fd, zeroes, count, offset, 1, 0);
    if (error != 0) return error;
    offset += count;
    size -= count;
  }
  return 0;
}

static int32_t perform(struct file *file, const struct operation *operation) {
  const int fd = file->fd;
  switch (operation->kind) {
    case KIND_READ:
      return transfer(fd, operation->bytes, operation->size, operation->offset, 0, 0);
    case KIND_WRITE:
      return transfer(fd, operation->bytes, operation->size, operation->offset, 1, 0);
    case KIND_WRITE_DURABLE:
      return write_durable(fd, operation->bytes, operation->size, operation->offset);
    case KIND_SYNC:
      return sync_data(fd);
    case KIND_ZERO:
    case KIND_DISCARD:
      return zero(file, operation->offset, operation->size, operation->kind == KIND_DISCARD);
    case KIND_APPEND: {
      /*
       * One call, at the position of the open file; the result is how much the file took. For lines
       * of a log.
       */
      ssize_t written = write(fd, operation->bytes, (size_t)operation->size);
      return written < 0 ? -errno : (int32_t)written;
    }
    default:
      return -EINVAL;
  }
}

static int is_cached(enum kind kind) { return kind == KIND_WRITE || kind == KIND_ZERO || kind == KIND_DISCARD || kind == KIND_APPEND; }

static void put(struct file *file, struct operation *operation) { append(is_cached(operation->kind) ? &file->cached : &file->slow, operation); }

/* The operation that a thread can begin now; NULL when there is none. */
static struct operation *next_for(struct file *file) {
  if (file->caching || file->cached.count == 0) return take(&file->slow);
  file->caching = 1;
  return take(&file->cached);
}

/* How many more threads could begin an operation now. */
static int wanted(const struct file *file) { return file->slow.count + (!file->caching && file->cached.count > 0 ? 1 : 0); }

static void *thread_main(void *data) {
  struct file *file = data;
  pthread_mutex_lock(&file->lock);
  while (!file->stopping) {
    struct operation *operation = next_for(file);
    if (operation == NULL) {
      file->idle++;
      pthread_cond_wait(&file->work, &file->lock);
      file->idle--;
      continue;
    }
    file->running++;
    pthread_mutex_unlock(&file->lock);
    operation->result = perform(file, operation);
    pthread_mutex_lock(&file->lock);
    file->running--;
    if (is_cached(operation->kind)) file->caching = 0;
    append(&file->done, operation);
    __atomic_store_n(&file->fresh, 1, __ATOMIC_RELEASE);
    /* One wake-up for all operations that end before the event loop looks. */
    if (file->done.count == 1 && !file->awaiting) {
      const uint64_t one = 1;
      ssize_t ignored = write(file->event_fd, &one, sizeof one);
      (void)ignored;
      pthread_cond_broadcast(&file->ended);
    }
  }
  pthread_mutex_unlock(&file->lock);
  return NULL;
}

/* Signals go to the main thread. */
static int start_thread(struct file *file) {
  pthread_attr_t attributes;
  sigset_t all, before;
  if (pthread_attr_init(&attributes) != 0) return -EAGAIN;
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&file->ids[file->threads], &attributes, thread_main, file);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (error != 0) return -error;
  file->threads++;
  return 0;
}

static void free_all(struct list *list) {
  for (struct operation *operation = take(list); operation != NULL; operation = take(list)) free(operation);
}

/* Waits for operations that threads have begun, and drops the others. */
static void file_free(struct file *file) {
  pthread_mutex_lock(&file->lock);
  __atomic_store_n(&file->stopping, 1, __ATOMIC_RELAXED);
  pthread_cond_broadcast(&file->work);
  pthread_mutex_unlock(&file->lock);
  for (int i = 0; i < file->threads; i++) pthread_join(file->ids[i], NULL);
  free_all(&file->slow);
  free_all(&file->cached);
  free_all(&file->done);
  pthread_cond_destroy(&file->work);
  pthread_cond_destroy(&file->ended);
  pthread_mutex_destroy(&file->lock);
  free(file);
}

/*
 * The environment ends, maybe during an operation. A lock that stayed would keep every process from
 * the image.
 */
void files_free(struct state *state) {
  for (int i = 0; i < state->file_slots; i++) {
    struct file *file = state->files[i];
    if (file == NULL) continue;
    int fd = file->fd, event_fd = file->event_fd;
    file_free(file);
    close(fd);
    close(event_fd);
  }
  free(state->files);
}

static struct file *file_of(napi_env env, napi_value id) {
  struct state *state = state_of(env);
  int32_t slot;
  if (napi_get_value_int32(env, id, &slot) != napi_ok || slot < 0 || slot >= state->file_slots) return NULL;
  return state->files[slot];
}

static int uint8s(napi_env env, napi_value array, uint8_t **bytes, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, array, &type, length, (void **)bytes, NULL, NULL) != napi_ok) return -EINVAL;
  return type == napi_uint8_array ? 0 : -EINVAL;
}

/*
 * preadv2 or pwritev2 of bytes from `start` on at a place of the file: (fd, bytes, start, offset,
 * flags)
 */
static napi_value transfer_now(napi_env env, napi_callback_info info, int writing) {
  ARGS(5);
  I32(0, fd);
  I64(2, start);
  I64(3, offset);
  I32(4, flags);
  uint8_t *bytes;
  size_t length;
  if (uint8s(env, argv[1], &bytes, &length) != 0 || start < 0 || (uint64_t)start > length) return number(env, -EINVAL);
  struct iovec rest = {.iov_base = bytes + start, .iov_len = length - (size_t)start};
  return answer(env, writing ? pwritev2(fd, &rest, 1, offset, flags) : preadv2(fd, &rest, 1, offset, flags));
}

napi_value vt_preadv2(napi_env env, napi_callback_info info) { return transfer_now(env, info, 0); }

napi_value vt_pwritev2(napi_env env, napi_callback_info info) { return transfer_now(env, info, 1); }

/*
 * preadAll(fd, arrays, count, offset, flags): preadv2 into the first `count` arrays, one after the
 * other.
 */
napi_value vt_pread_all(napi_env env, napi_callback_info info) {
  ARGS(5);
  I32(0, fd);
  U32(2, count);
  I64(3, offset);
  I32(4, flags);
  struct iovec parts[PARTS_MAX];
  if (count > PARTS_MAX) return number(env, -EINVAL);
  for (uint32_t i = 0; i < count; i++) {
    napi_value array;
    uint8_t *bytes;
    size_t length;
    if (napi_get_element(env, argv[1], i, &array) != napi_ok || uint8s(env, array, &bytes, &length) != 0) return number(env, -EINVAL);
    parts[i] = (struct iovec){.iov_base = bytes, .iov_len = length};
  }
  return answer(env, preadv2(fd, parts, (int)count, offset, flags));
}

/* mknod(path, mode, device) */
napi_value vt_mknod(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(1, mode);
  I32(2, device);
  char path[4096];
  size_t length;
  if (napi_get_value_string_utf8(env, argv[0], path, sizeof path, &length) != napi_ok) return number(env, -EINVAL);
  return answer(env, syscall(SYS_mknodat, AT_FDCWD, path, mode, device));
}

/* lseek(fd, offset, whence) */
napi_value vt_lseek(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I64(1, offset);
  I32(2, whence);
  return answer(env, lseek(fd, offset, whence));
}

/*
 * fcntl of a lock: (fd, command, type, start, length, into); `into` gets l_type and l_pid as the
 * kernel leaves them
 */
napi_value vt_fcntl_lock(napi_env env, napi_callback_info info) {
  ARGS(6);
  I32(0, fd);
  I32(1, command);
  I32(2, type);
  I64(3, start);
  I64(4, length);
  int32_t *into;
  if (int32s(env, argv[5], 2, &into) != 0) return number(env, -EINVAL);
  if (command != F_OFD_SETLK && command != F_OFD_GETLK) return number(env, -EINVAL);
  struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  int result = fcntl(fd, command, &lock);
  into[0] = lock.l_type;
  into[1] = lock.l_pid;
  return answer(env, result);
}

/*
 * fileOpen(fd, eventFd, threads): an id. The caller keeps both descriptors until its environment
 * ends: this file closes them then.
 */
napi_value vt_file_open(napi_env env, napi_callback_info info) {
  ARGS(3);
  I32(0, fd);
  I32(1, event_fd);
  I32(2, threads);
  if (fd < 0 || event_fd < 0 || threads < 1 || threads > THREADS_MAX) return number(env, -EINVAL);
  struct state *state = state_of(env);
  int slot = 0;
  while (slot < state->file_slots && state->files[slot] != NULL) slot++;
  if (slot == state->file_slots) {
    struct file **grown = realloc(state->files, (size_t)(slot + 16) * sizeof *grown);
    if (grown == NULL) return number(env, -ENOMEM);
    memset(grown + slot, 0, 16 * sizeof *grown);
    state->files = grown;
    state->file_slots = slot + 16;
  }
  struct file *file = calloc(1, sizeof *file);
  if (file == NULL) return number(env, -ENOMEM);
  file->fd = fd;
  file->event_fd = event_fd;
  file->threads_max = threads;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_mutex_init(&file->lock, NULL);
  pthread_cond_init(&file->work, NULL);
  pthread_cond_init(&file->ended, &monotonic);
  pthread_condattr_destroy(&monotonic);
  state->files[slot] = file;
  return number(env, slot);
}

/*
 * One operation as src/sys describes it. Kind, offset and size are numbers 3·slot to 3·slot + 2 of
 * the table; its bytes are element `slot` of the array.
 */
static int operation_new(napi_env env, int32_t slot, const double *table, size_t table_length, napi_value buffers, struct operation **made) {
  if (slot < 0 || (size_t)slot * 3 + 3 > table_length) return -EINVAL;
  const double *fields = table + (size_t)slot * 3;
  const double limit = 9007199254740992.0; /* 2^53; NaN fails the comparisons */
  if (!(fields[0] >= 0 && fields[0] < KINDS && fields[1] >= 0 && fields[1] < limit && fields[2] >= 0 && fields[2] < limit)) return -EINVAL;
  struct operation operation = {.slot = slot, .kind = (enum kind)fields[0], .offset = (int64_t)fields[1], .size = (int64_t)fields[2]};
  if (operation.kind <= KIND_WRITE_DURABLE || operation.kind == KIND_APPEND) {
    napi_value bytes;
    size_t length;
    if (napi_get_element(env, buffers, (uint32_t)slot, &bytes) != napi_ok || uint8s(env, bytes, &operation.bytes, &length) != 0) return -EINVAL;
    if (length != (size_t)operation.size) return -EINVAL;
  }
  *made = malloc(sizeof operation);
  if (*made == NULL) return -ENOMEM;
  **made = operation;
  return 0;
}

/*
 * fileSubmit(id, slots, count, table, buffers): hand operations to the threads. The result is how
 * many were taken, from the first on. This file does not hold the buffers: the caller keeps them
 * until `fileReap` has reported them.
 */
napi_value vt_file_submit(napi_env env, napi_callback_info info) {
  ARGS(5);
  U32(2, count);
  int32_t *slots;
  double *table;
  size_t table_length;
  napi_typedarray_type type;
  if (int32s(env, argv[1], count, &slots) != 0) return number(env, -EINVAL);
  if (napi_get_typedarray_info(env, argv[3], &type, &table_length, (void **)&table, NULL, NULL) != napi_ok) return number(env, -EINVAL);
  if (type != napi_float64_array) return number(env, -EINVAL);
  struct file *file = file_of(env, argv[0]);
  if (file == NULL) return number(env, -EBADF);
  if (file->threads == 0) {
    int error = start_thread(file);
    if (error != 0) return number(env, error);
  }
  struct list made = {0};
  int error = 0;
  for (uint32_t i = 0; i < count && error == 0; i++) {
    struct operation *operation = NULL;
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) break;
    error = operation_new(env, slots[i], table, table_length, argv[4], &operation);
    napi_close_handle_scope(env, scope);
    if (error == 0) append(&made, operation);
  }
  int taken = made.count;
  if (taken == 0) return number(env, error);
  pthread_mutex_lock(&file->lock);
  for (struct operation *operation = take(&made); operation != NULL; operation = take(&made)) put(file, operation);
  int waiting = wanted(file), idle = file->idle;
  pthread_mutex_unlock(&file->lock);
  /* Without the lock, for which a thread that wakes up would wait again. */
  for (int i = 0; i < waiting && i < idle; i++) pthread_cond_signal(&file->work);
  for (int i = idle; i < waiting && file->threads < file->threads_max; i++) {
    if (start_thread(file) != 0) break; /* there is one */
  }
  return number(env, taken);
}

/* Whether an operation has ended; for spin_wait, and never waits itself. */
static int has_ended(void *what, int timeout_ms) {
  (void)timeout_ms;
  return __atomic_load_n(&((struct file *)what)->fresh, __ATOMIC_ACQUIRE);
}

/*
 * Looks for an operation that ends within microseconds, while that pays (spin.c). The thread that
 * ends it then has no eventfd to signal, and this thread no event to wait for.
 */
static void await_soon(struct file *file) {
  pthread_mutex_lock(&file->lock);
  file->awaiting = file->done.count == 0 && file->running + file->slow.count + file->cached.count > 0;
  const int awaiting = file->awaiting;
  pthread_mutex_unlock(&file->lock);
  if (!awaiting) return;
  spin_wait(&file->spin, has_ended, file, 1);
  pthread_mutex_lock(&file->lock);
  file->awaiting = 0;
  pthread_mutex_unlock(&file->lock);
}

/*
 * fileReap(id, into, timeoutMs, spins): the slot and the result of each ended operation, as far as
 * there is room; the result is how many. With `spins` it looks for the first for some microseconds,
 * while that pays. Waits `timeoutMs` for the first when one is under way.
 */
napi_value vt_file_reap(napi_env env, napi_callback_info info) {
  ARGS(3);
  U32(2, timeout_ms);
  OPTIONAL_FLAG(3, spins);
  napi_typedarray_type type;
  int32_t *into;
  size_t length;
  if (napi_get_typedarray_info(env, argv[1], &type, &length, (void **)&into, NULL, NULL) != napi_ok || type != napi_int32_array) return number(env, -EINVAL);
  struct file *file = file_of(env, argv[0]);
  if (file == NULL) return number(env, -EBADF);
  if (spins) await_soon(file);
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += timeout_ms / 1000;
  until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  pthread_mutex_lock(&file->lock);
  while (timeout_ms > 0 && file->done.count == 0 && file->running + file->slow.count + file->cached.count > 0) {
    if (pthread_cond_timedwait(&file->ended, &file->lock, &until) != 0) break;
  }
  int count = 0;
  while ((size_t)count * 2 + 2 <= length) {
    struct operation *operation = take(&file->done);
    if (operation == NULL) break;
    into[count * 2] = operation->slot;
    into[count * 2 + 1] = operation->result;
    count++;
    free(operation);
  }
  if (file->done.count == 0) __atomic_store_n(&file->fresh, 0, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&file->lock);
  return number(env, count);
}

/*
 * fileClose(id): waits for the operations of the threads, and ends the threads. The caller may
 * close its descriptors then.
 */
napi_value vt_file_close(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, slot);
  struct file *file = file_of(env, argv[0]);
  if (file == NULL) return number(env, -EBADF);
  state_of(env)->files[slot] = NULL;
  file_free(file);
  return number(env, 0);
}

/*
 * fileAbandon(id): as fileClose, without waiting for threads at work. The answer is 1 when a thread
 * is at work: then nothing of the file may be closed or freed, since the thread ends with the
 * process alone.
 */
napi_value vt_file_abandon(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, slot);
  struct file *file = file_of(env, argv[0]);
  if (file == NULL) return number(env, -EBADF);
  state_of(env)->files[slot] = NULL;
  pthread_mutex_lock(&file->lock);
  const int running = file->running;
  __atomic_store_n(&file->stopping, 1, __ATOMIC_RELAXED);
  pthread_cond_broadcast(&file->work);
  pthread_mutex_unlock(&file->lock);
  if (running == 0) {
    file_free(file);
    return number(env, 0);
  }
  for (int i = 0; i < file->threads; i++) pthread_detach(file->ids[i]);
  return number(env, 1);
}

/*
 * allocated(fd): bytes that a file really holds, as far as this machine knows. The call does not
 * ask a server of the file (NFS, FUSE), which may not answer (AT_STATX_DONT_SYNC,
 * linux/uapi/linux/fcntl.h).
 */
napi_value vt_allocated(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, fd);
  struct statx found;
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BLOCKS, &found) != 0) return number(env, -errno);
  return number(env, (int64_t)found.stx_blocks * 512);
}

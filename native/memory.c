/*
 * Shared memory: memfds, mappings as ArrayBuffers, and the guard of mappings whose file a peer can
 * shorten.
 */
#include "addon.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * A live mapping. Mappings form a list: an environment that ends without munmap (a terminated
 * worker) frees its address space.
 */
struct mapping {
  struct mapping *next, **link;
  char *data;
  size_t length, page;
  /* A peer's file: see on_bus_error. Under guard_lock: */
  struct mapping *next_guarded, **guarded_link;
  atomic_uint faults;
};

/* Marks the ArrayBuffers of this file, so that munmap never unmaps other memory. */
static const napi_type_tag mapping_tag = {0x7666696f2d74735fULL, 0x6d617070696e6700ULL};

/* memfd_create(name, flags) */
napi_value vt_memfd_create(napi_env env, napi_callback_info info) {
  ARGS(2);
  char name[64];
  if (napi_get_value_string_utf8(env, argv[0], name, sizeof name, NULL) != napi_ok) return number(env, -EINVAL);
  U32(1, flags);
  return answer(env, memfd_create(name, flags));
}

/* ftruncate(fd, length) */
napi_value vt_ftruncate(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(0, fd);
  I64(1, length);
  return answer(env, ftruncate(fd, length));
}

/*
 * The guard of memory whose file a peer has too. A peer that shortens the file (or whose file
 * cannot be filled, or whose page is broken) turns our next load or store into SIGBUS, which would
 * end the process. Instead, private zeroed memory replaces the rest of that mapping, the
 * instruction goes on, and the fault is counted. The peer has lost its own bytes; no other mapping
 * changes. The guard replaces the rest rather than a page, since Linux limits the mappings of a
 * process and a peer could use them all up.
 *
 * The handler calls mmap, sigaction and raise only. Its lock is safe: its holder touches no guarded
 * memory, so a thread never waits for itself, and the handler ignores signals that a process sent.
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

/* Whether the fault at `address` was in guarded memory and is repaired. */
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
  /* Not for a signal that a process sent. */
  if (info->si_code > 0 && registers_mend(context)) return;
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
    /*
     * As without this handler. A fault comes again when its instruction does; a signal that was
     * sent, or that warns of a page, is sent once more.
     */
    sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    if (info->si_code <= 0 || info->si_code == BUS_MCEERR_AO) raise(signal);
  }
}

/* Under guard_lock. */
static int install(void) {
  if (!guard_installed) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    guard_installed = sigaction(SIGBUS, &action, &chained) == 0;
  }
  return guard_installed;
}

int bus_handler_install(void) {
  guard_enter();
  const int installed = install();
  guard_leave();
  return installed;
}

/* False when the whole process has `limit` guarded mappings already. */
static int guard_add(struct mapping *mapping, uint32_t limit) {
  guard_enter();
  if (guarded_count >= limit) {
    guard_leave();
    return 0;
  }
  guarded_count++;
  install();
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

void mapping_free(struct mapping *mapping) {
  if (mapping->guarded_link != NULL) guard_remove(mapping);
  munmap(mapping->data, mapping->length);
  *mapping->link = mapping->next;
  if (mapping->next != NULL) mapping->next->link = mapping->link;
  free(mapping);
}

enum { MMAP_PRIVATE = 1, MMAP_GUARDED = 2 };

/*
 * mmap(fd, offset, length, page, how, limit): an ArrayBuffer over exactly these bytes of the file,
 * or -errno. `page` is the file's page size. The mapping extends on both sides to that size, or to
 * the page size of this machine where that is larger (64 KiB on some arm64). It is always readable
 * and writable: a store into an ArrayBuffer cannot fail, so a read-only mapping would crash the
 * process. A private one (1) keeps stores to itself. A guarded one (2): see above, -ENOMEM when
 * this process has `limit` of them. There is no finalizer: the owner calls munmap, the collector
 * never does.
 */
napi_value vt_mmap(napi_env env, napi_callback_info info) {
  ARGS(6);
  I32(0, fd);
  I64(1, offset);
  I64(2, length);
  I64(3, page);
  I32(4, how);
  U32(5, limit);
  if (offset < 0 || offset > 1LL << 60 || length <= 0 || length > 1LL << 46 || page < 4096 || page > 1LL << 40 || (page & (page - 1)) != 0) return number(env, -EINVAL);
  const int64_t least = sysconf(_SC_PAGESIZE);
  if (page < least) page = least;
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
napi_value vt_mapping_faults(napi_env env, napi_callback_info info) {
  ARGS(1);
  struct mapping *mapping = mapping_of(env, argv[0]);
  return number(env, mapping == NULL ? -EINVAL : (int64_t)atomic_load(&mapping->faults));
}

/* madvise(buffer, advice), of all of the mapping */
napi_value vt_madvise(napi_env env, napi_callback_info info) {
  ARGS(2);
  I32(1, advice);
  struct mapping *mapping = mapping_of(env, argv[0]);
  if (mapping == NULL) return number(env, -EINVAL);
  return answer(env, madvise(mapping->data, mapping->length, advice));
}

/*
 * munmap(buffer): detaches the ArrayBuffer first, so that every view of it is empty before the
 * pages go. -EINVAL for one that is not ours.
 */
napi_value vt_munmap(napi_env env, napi_callback_info info) {
  ARGS(1);
  struct mapping *mapping = mapping_of(env, argv[0]);
  if (mapping == NULL) return number(env, -EINVAL);
  if (napi_detach_arraybuffer(env, argv[0]) != napi_ok) return number(env, -EINVAL);
  napi_remove_wrap(env, argv[0], NULL);
  mapping_free(mapping);
  return number(env, 0);
}

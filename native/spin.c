/*
 * Waiting for a peer that answers soon. A virtual processor that sleeps takes some 40 us to wake
 * up; a peer on another core answers in 5. So a wait first looks again and again, for as long as
 * that has paid off lately, and only then sleeps.
 *
 * A wait that looks in vain halves the time for the next, down to nothing; one wait in PROBE_EVERY
 * tries anew. On one core a peer runs only while this thread does not: a preemption then looks like
 * success, so a wait in which the kernel took the core away counts as one in vain. A thread that
 * the kernel does not preempt never spins, nor does any thread of a machine with one core.
 */
#include "addon.h"

#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SPIN_NS = 50000, LEAST_NS = 1000, PROBE_EVERY = 256 };

static int pays_here(void) { return sched_getscheduler(0) == SCHED_OTHER && sysconf(_SC_NPROCESSORS_ONLN) > 1; }

/* Times that the kernel took the core away from this thread. */
static long preemptions(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : -1;
}

static void relax(void) {
#if defined __x86_64__
  __builtin_ia32_pause();
#elif defined __aarch64__
  __asm__ volatile("yield");
#endif
}

/*
 * `look(what, timeout_ms)` waits as poll(2) does, and so does this function. `spin` remembers what
 * paid off; all zeroes at first.
 */
int spin_wait(struct spin *spin, int (*look)(void *what, int timeout_ms), void *what, int timeout_ms) {
  const int probe = spin->budget_ns == 0;
  if (timeout_ms == 0 || (probe && spin->waits++ % PROBE_EVERY != 0)) return look(what, timeout_ms);
  int ready = look(what, 0);
  if (probe && ready != 0) spin->waits--; /* nothing to try here */
  if (ready != 0) return ready;
  if (probe && !pays_here()) return look(what, timeout_ms);
  const long before = preemptions();
  const int64_t until = now_ns() + (probe ? SPIN_NS : spin->budget_ns);
  do {
    relax();
    ready = look(what, 0);
  } while (ready == 0 && now_ns() < until);
  if (ready > 0 && preemptions() == before) {
    spin->budget_ns = SPIN_NS;
  } else {
    spin->budget_ns /= 2;
    if (spin->budget_ns < LEAST_NS) spin->budget_ns = 0;
  }
  return ready != 0 ? ready : look(what, timeout_ms);
}

struct polled {
  struct pollfd *fds;
  nfds_t count;
};

static int look_at(void *what, int timeout_ms) {
  const struct polled *polled = what;
  return poll(polled->fds, polled->count, timeout_ms);
}

/* As poll(2). */
int spin_poll(struct spin *spin, struct pollfd *fds, int count, int timeout_ms) {
  struct polled polled = {.fds = fds, .count = (nfds_t)count};
  return spin_wait(spin, look_at, &polled, timeout_ms);
}

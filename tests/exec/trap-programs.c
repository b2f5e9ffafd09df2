/*
 * Programs that map registers, one for each argument. Each prints "PID INODE" of its file, waits
 * for a line, uses the registers, and ends with 0 when all came out as on hardware.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int file;
static volatile uint32_t *registers;

static volatile uint32_t *map(int rights, off_t offset) {
  void *at = mmap(NULL, 4096, rights, MAP_SHARED, file, offset);
  if (at == MAP_FAILED) exit(90);
  return at;
}

static void ready(pid_t pid) {
  struct stat status;
  fstat(file, &status);
  printf("%d %lu\n", pid, (unsigned long)status.st_ino);
  fflush(stdout);
  if (getchar() < 0) exit(91);
}

static void add(int times) {
  for (int i = 0; i < times; i++) __atomic_fetch_add(registers, 1, __ATOMIC_SEQ_CST);
}

static void *adder(void *times) {
  add((int)(intptr_t)times);
  return NULL;
}

/* Threads of before the mapping, and threads that threads make. */
static void *maker(void *unused) {
  (void)unused;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, adder, (void *)100);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  return NULL;
}

static int released;
static void *early(void *unused) {
  (void)unused;
  while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE)) usleep(100);
  add(100);
  return maker(NULL);
}

static int threads(void) {
  pthread_t before, after[4];
  pthread_create(&before, NULL, early, NULL);
  ready(getpid());
  __atomic_store_n(&released, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < 4; i++) pthread_create(&after[i], NULL, maker, NULL);
  for (int i = 0; i < 4; i++) pthread_join(after[i], NULL);
  pthread_join(before, NULL);
  return registers[0] == 5 * 400 + 100 ? 0 : 1;
}

/* Children with the registers of their parent, which they may outlive. */
static int forks(void) {
  ready(getpid());
  for (int i = 0; i < 20; i++) {
    const pid_t child = i % 2 == 0 ? fork() : vfork();
    if (child == 0) {
      add(5);
      _exit(7);
    }
    int status;
    add(5);
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) return 1;
  }
  if (registers[0] != 200) return 2;
  if (fork() == 0) {
    if (fork() == 0) {
      usleep(20000);
      add(1);
    }
    _exit(0);
  }
  return wait(NULL) > 0 ? 0 : 3;
}

static volatile int alarms, queued, wrong;
static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}
static void on_queued(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  if (info->si_value.sival_int != queued) wrong++;
  queued++;
}

static int signals(void) {
  struct sigaction queue = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO};
  sigaction(SIGRTMIN, &queue, NULL);
  signal(SIGALRM, on_alarm);
  ready(getpid());
  struct itimerval often = {{0, 500}, {0, 500}};
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; i < 2000; i++) {
    registers[1] = (uint32_t)i;
    if (registers[1] != (uint32_t)i) wrong++;
    if (i % 10 == 0) sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i / 10});
  }
  struct itimerval never = {0};
  setitimer(ITIMER_REAL, &never, NULL);
  return alarms > 0 && queued == 200 && wrong == 0 ? 0 : 1;
}

static sigjmp_buf back;
static siginfo_t seen;
static void on_fault(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  seen = *info;
  siglongjmp(back, 1);
}

static int faults_at(volatile uint32_t *at, int signal, int code) {
  memset(&seen, 0, sizeof seen);
  if (sigsetjmp(back, 1) == 0) {
    (void)*at;
    return 0;
  }
  return seen.si_signo == signal && seen.si_code == code && seen.si_addr == (void *)at;
}

/* Register 16 does not answer; the second page has no registers. */
static int faults(void) {
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGBUS, &fault, NULL);
  sigaction(SIGSEGV, &fault, NULL);
  volatile uint32_t *other = map(PROT_READ | PROT_WRITE, 1 << 20);
  ready(getpid());
  registers[0] = 5;
  if (registers[0] != 5) return 1;
  if (!faults_at(registers + 16, SIGBUS, BUS_ADRERR)) return 2;
  if (!faults_at(other, SIGBUS, BUS_ADRERR)) return 3;
  if (registers[0] != 5) return 4;
  /* A signal of kill(2) is no fault. */
  if (sigsetjmp(back, 1) == 0) {
    raise(SIGBUS);
    return 6;
  }
  if (seen.si_code != SI_TKILL) return 7;
  /* A copy to where there is no memory: two steps are done. */
  uint8_t *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(edge + 4096, 4096);
  uint32_t *to = (uint32_t *)(edge + 4096 - 8);
  registers[1] = 6;
  if (sigsetjmp(back, 1) == 0) {
    const volatile uint32_t *from = registers;
    uint64_t count = 4;
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return 8;
  }
  if (seen.si_signo != SIGSEGV || seen.si_addr != edge + 4096) return 9;
  if (((uint32_t *)(edge + 4096))[-2] != 5 || ((uint32_t *)(edge + 4096))[-1] != 6) return 10;
  munmap((void *)registers, 4096);
  if (!faults_at(registers, SIGSEGV, SEGV_MAPERR)) return 11;
  /* Moved, and mapped again. */
  registers = map(PROT_READ | PROT_WRITE, 0);
  if (registers[0] != 5) return 12;
  void *place = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  registers = mremap((void *)registers, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, place);
  return registers[0] == 5 ? 0 : 13;
}

/* A division is not emulated. */
static int unknown(void) {
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGBUS, &fault, NULL);
  ready(getpid());
  if (sigsetjmp(back, 1) == 0) {
    uint32_t low = 1, high = 0;
    __asm__ volatile("divl %2" : "+a"(low), "+d"(high) : "m"(*registers));
    return 1;
  }
  return seen.si_code == BUS_ADRERR ? 0 : 2;
}

/* Job control of a child that is traced. */
static int stops(void) {
  ready(getpid());
  const pid_t child = fork();
  if (child == 0) {
    add(1);
    raise(SIGSTOP);
    add(1);
    _exit(3);
  }
  int status;
  if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP) return 1;
  if (registers[0] != 1) return 2;
  kill(child, SIGCONT);
  if (waitpid(child, &status, WCONTINUED) != child || !WIFCONTINUED(status)) return 3;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 3) return 4;
  return registers[0] == 2 ? 0 : 5;
}

static void *executer(void *unused) {
  (void)unused;
  add(1);
  execl("/bin/sleep", "sleep", "0.2", NULL);
  exit(1);
}

/* A thread that is not the first one execs. */
static int execs(void) {
  ready(getpid());
  pthread_t thread;
  pthread_create(&thread, NULL, executer, NULL);
  while (registers[2] == 0) {
  }
  return 1;
}

/* A child that its parent traces. */
static int traced(void) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  if (ptrace(PTRACE_SEIZE, child, NULL, NULL) != 0) return 1;
  ready(child);
  kill(child, SIGKILL);
  return 0;
}

/* Killed by its test, in the middle of accesses. */
static int endless(void) {
  ready(getpid());
  pthread_t thread;
  pthread_create(&thread, NULL, adder, (void *)INT32_MAX);
  add(INT32_MAX);
  return 1;
}

static void nothing(int signal) { (void)signal; }

/* Ends once it has a signal. */
static int unmaps(void) {
  signal(SIGUSR1, nothing);
  sigset_t usr1, signals;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigprocmask(SIG_BLOCK, &usr1, &signals);
  ready(getpid());
  add(10);
  munmap((void *)registers, 4096);
  sigsuspend(&signals);
  return 0;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*run)(void);
  } programs[] = {{"threads", threads}, {"forks", forks}, {"signals", signals}, {"faults", faults}, {"unknown", unknown}, {"stops", stops},
                  {"execs", execs},     {"traced", traced}, {"unmaps", unmaps}, {"endless", endless}};
  file = memfd_create("registers", MFD_CLOEXEC);
  registers = map(PROT_READ | PROT_WRITE, 0);
  for (size_t i = 0; argc > 1 && i < sizeof programs / sizeof *programs; i++) {
    if (strcmp(argv[1], programs[i].name) == 0) return programs[i].run();
  }
  return 99;
}

/*
 * Mapped registers of devices: each access is one instruction of exactly the given width, in a
 * function of assembler that has no other access to memory. The compiler cannot tear, merge, repeat
 * or drop such an access, and a disassembler can show that
 * (tests/kernel/register-code.test.ts).
 *
 * A mapping that the kernel has revoked raises SIGBUS at one of these instructions. The handler of
 * memory.c finds the instruction in a table and goes on behind it, at code that returns an error,
 * as the kernel's own accesses to user memory do.
 *
 * Order: all stores to memory before a register's store are visible to the device before that
 * store, and no access to memory after a register's load happens before the load. x86-64 orders
 * accesses to uncached memory so; arm64 needs the barriers of Linux's writel() and readl()
 * (linux/arch/arm64/include/asm/io.h, __io_bw() and __io_ar()).
 */
#include "addon.h"

#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

/* In two registers: the value, and 0 or 1 when the access failed. */
struct loaded {
  uint64_t value, failed;
};

struct loaded vt_load8(const volatile void *address);
struct loaded vt_load16(const volatile void *address);
struct loaded vt_load32(const volatile void *address);
struct loaded vt_load64(const volatile void *address);
/* 0, or 1 when the access failed. */
int vt_store8(volatile void *address, uint64_t value);
int vt_store16(volatile void *address, uint64_t value);
int vt_store32(volatile void *address, uint64_t value);
int vt_store64(volatile void *address, uint64_t value);

/*
 * Protected symbols: a disassembler finds the functions by their names, and no other library can
 * put its own in their place. A row of the table is an access and the code behind a failure of it.
 */
#define ACCESS(name, before, access, after, failed)                                                                                            \
  __asm__(".pushsection .text\n"                                                                                                               \
          ".p2align 4\n"                                                                                                                       \
          ".globl " name "\n"                                                                                                                  \
          ".protected " name "\n"                                                                                                              \
          ".type " name ", %function\n" name ":\n" before "\n"                                                                                 \
          "1: " access "\n" after "\n"                                                                                                         \
          "  ret\n"                                                                                                                            \
          "2: " failed "\n"                                                                                                                    \
          "  ret\n"                                                                                                                            \
          ".size " name ", . - " name "\n"                                                                                                     \
          ".popsection\n"                                                                                                                      \
          ".pushsection vt_accesses, \"a\"\n"                                                                                                  \
          ".long 1b - .\n"                                                                                                                     \
          ".long 2b - .\n"                                                                                                                     \
          ".popsection\n")

#if defined(__x86_64__)
#define LOAD(name, access) ACCESS(name, "  xorl %edx, %edx", access, "", "movl $1, %edx\n  xorl %eax, %eax")
#define STORE(name, access) ACCESS(name, "  xorl %eax, %eax", access, "", "movl $1, %eax")
LOAD("vt_load8", "movzbl (%rdi), %eax");
LOAD("vt_load16", "movzwl (%rdi), %eax");
LOAD("vt_load32", "movl (%rdi), %eax");
LOAD("vt_load64", "movq (%rdi), %rax");
STORE("vt_store8", "movb %sil, (%rdi)");
STORE("vt_store16", "movw %si, (%rdi)");
STORE("vt_store32", "movl %esi, (%rdi)");
STORE("vt_store64", "movq %rsi, (%rdi)");
#define PC(context) ((context)->uc_mcontext.gregs[REG_RIP])
#elif defined(__aarch64__)
#define LOAD(name, access) ACCESS(name, "", access, "  dmb oshld\n  mov x1, #0", "mov x1, #1\n  mov x0, #0")
#define STORE(name, access) ACCESS(name, "  dmb oshst", access, "  mov w0, #0", "mov w0, #1")
LOAD("vt_load8", "ldrb w0, [x0]");
LOAD("vt_load16", "ldrh w0, [x0]");
LOAD("vt_load32", "ldr w0, [x0]");
LOAD("vt_load64", "ldr x0, [x0]");
STORE("vt_store8", "strb w1, [x0]");
STORE("vt_store16", "strh w1, [x0]");
STORE("vt_store32", "str w1, [x0]");
STORE("vt_store64", "str x1, [x0]");
#define PC(context) ((context)->uc_mcontext.pc)
#else
#error "there are no accesses to registers for this processor"
#endif

struct row {
  int32_t access, failed;
};
extern const struct row __start_vt_accesses[] __attribute__((visibility("hidden"))), __stop_vt_accesses[] __attribute__((visibility("hidden")));

static uintptr_t place_of(const int32_t *distance) { return (uintptr_t)distance + (uintptr_t)(intptr_t)*distance; }

/* In the handler of SIGBUS: whether the fault is that of a register's access, which fails then. */
int registers_mend(void *context) {
  ucontext_t *machine = context;
  for (const struct row *row = __start_vt_accesses; row < __stop_vt_accesses; row++) {
    if (place_of(&row->access) != (uintptr_t)PC(machine)) continue;
    PC(machine) = (__typeof__(PC(machine)))place_of(&row->failed);
    return 1;
  }
  return 0;
}

/* A mapping of registers, by its number in the environment. Size 0: the number is free. */
struct registers {
  char *data;
  uint64_t size;
  int prot;
};

static struct registers *registers_of(struct state *state, int32_t slot) {
  return slot >= 0 && slot < state->registers_slots ? &state->registers[slot] : NULL;
}

/* registersMap(fd, offset, length, prot): the number of a new mapping */
napi_value vt_registers_map(napi_env env, napi_callback_info info) {
  ARGS(4);
  I32(0, fd);
  I64(1, offset);
  I64(2, length);
  I32(3, prot);
  if (offset < 0 || length <= 0 || (prot & ~(PROT_READ | PROT_WRITE)) != 0) return number(env, -EINVAL);
  if (!bus_handler_install()) return number(env, -ENOSYS);
  struct state *state = state_of(env);
  int slot = 0;
  while (slot < state->registers_slots && state->registers[slot].size != 0) slot++;
  if (slot == state->registers_slots) {
    const int slots = slot == 0 ? 8 : slot * 2;
    struct registers *grown = realloc(state->registers, (size_t)slots * sizeof *grown);
    if (grown == NULL) return number(env, -ENOMEM);
    memset(grown + slot, 0, (size_t)(slots - slot) * sizeof *grown);
    state->registers = grown;
    state->registers_slots = slots;
  }
  char *data = mmap(NULL, (size_t)length, prot, MAP_SHARED, fd, offset);
  if (data == MAP_FAILED) return number(env, -errno);
  state->registers[slot] = (struct registers){.data = data, .size = (uint64_t)length, .prot = prot};
  return number(env, slot);
}

/* registersUnmap(slot) */
napi_value vt_registers_unmap(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, slot);
  struct registers *registers = registers_of(state_of(env), slot);
  if (registers == NULL || registers->size == 0) return number(env, -EINVAL);
  const struct registers was = *registers;
  *registers = (struct registers){0};
  return answer(env, munmap(was.data, was.size));
}

/* registersAddress(slot): where the mapping begins in this process */
napi_value vt_registers_address(napi_env env, napi_callback_info info) {
  ARGS(1);
  I32(0, slot);
  struct registers *registers = registers_of(state_of(env), slot);
  return number(env, registers == NULL || registers->size == 0 ? -EINVAL : (int64_t)(uintptr_t)registers->data);
}

void registers_free(struct state *state) {
  for (int slot = 0; slot < state->registers_slots; slot++) {
    if (state->registers[slot].size != 0) munmap(state->registers[slot].data, state->registers[slot].size);
  }
  free(state->registers);
}

/*
 * The place of an aligned register that lies in the mapping and allows the access; NULL with a
 * negative errno in `error`.
 */
static char *place(napi_env env, napi_value mapping, napi_value at, unsigned width, int prot, int *error) {
  int32_t slot;
  double wanted;
  *error = -EINVAL;
  if (napi_get_value_int32(env, mapping, &slot) != napi_ok || napi_get_value_double(env, at, &wanted) != napi_ok) return NULL;
  struct registers *registers = registers_of(state_of(env), slot);
  if (registers == NULL || registers->size == 0) return NULL;
  /* False for what is no number, too. */
  if (!(wanted >= 0 && wanted <= (double)registers->size - width)) return NULL;
  const uint64_t offset = (uint64_t)wanted;
  if ((double)offset != wanted || offset % width != 0) return NULL;
  *error = -EACCES;
  if ((registers->prot & prot) == 0) return NULL;
  return registers->data + offset;
}

/* load8, load16, load32(slot, offset): the value, or a negative errno; -EFAULT after SIGBUS */
static napi_value load(napi_env env, napi_callback_info info, unsigned width, struct loaded (*access)(const volatile void *)) {
  ARGS(2);
  int error;
  const char *from = place(env, argv[0], argv[1], width, PROT_READ, &error);
  if (from == NULL) return number(env, error);
  const struct loaded loaded = access(from);
  return number(env, loaded.failed ? -EFAULT : (int64_t)loaded.value);
}

napi_value vt_registers_load8(napi_env env, napi_callback_info info) { return load(env, info, 1, vt_load8); }
napi_value vt_registers_load16(napi_env env, napi_callback_info info) { return load(env, info, 2, vt_load16); }
napi_value vt_registers_load32(napi_env env, napi_callback_info info) { return load(env, info, 4, vt_load32); }

/* store8, store16, store32(slot, offset, value) */
static napi_value store(napi_env env, napi_callback_info info, unsigned width, int (*access)(volatile void *, uint64_t)) {
  ARGS(3);
  U32(2, value);
  int error;
  char *to = place(env, argv[0], argv[1], width, PROT_WRITE, &error);
  if (to == NULL) return number(env, error);
  return number(env, access(to, value) ? -EFAULT : 0);
}

napi_value vt_registers_store8(napi_env env, napi_callback_info info) { return store(env, info, 1, vt_store8); }
napi_value vt_registers_store16(napi_env env, napi_callback_info info) { return store(env, info, 2, vt_store16); }
napi_value vt_registers_store32(napi_env env, napi_callback_info info) { return store(env, info, 4, vt_store32); }

/* load64(slot, offset): a bigint, or a negative errno as a number */
napi_value vt_registers_load64(napi_env env, napi_callback_info info) {
  ARGS(2);
  int error;
  const char *from = place(env, argv[0], argv[1], 8, PROT_READ, &error);
  if (from == NULL) return number(env, error);
  const struct loaded loaded = vt_load64(from);
  if (loaded.failed) return number(env, -EFAULT);
  napi_value result = NULL;
  napi_create_bigint_uint64(env, loaded.value, &result);
  return result;
}

/* store64(slot, offset, value): the value is a bigint below 2^64 */
napi_value vt_registers_store64(napi_env env, napi_callback_info info) {
  ARGS(3);
  uint64_t value;
  bool whole;
  if (napi_get_value_bigint_uint64(env, argv[2], &value, &whole) != napi_ok || !whole) return number(env, -EINVAL);
  int error;
  char *to = place(env, argv[0], argv[1], 8, PROT_WRITE, &error);
  if (to == NULL) return number(env, error);
  return number(env, vt_store64(to, value) ? -EFAULT : 0);
}

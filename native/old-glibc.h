/*
 * glibc 2.32 and 2.34 moved functions of threads from libpthread into libc and gave them new
 * versions. An addon that asks for those versions loads with no older glibc. These lines ask for
 * the first version of each function, which every glibc has under that name; node itself brings
 * libpthread into the process where it is a library of its own.
 */
#pragma once
#include <features.h>

#ifdef __GLIBC__
#if defined(__x86_64__)
#define FIRST_VERSION "GLIBC_2.2.5"
#define FIRST_VERSION_OF_CLOCKS "GLIBC_2.3.3"
#elif defined(__aarch64__)
#define FIRST_VERSION "GLIBC_2.17"
#define FIRST_VERSION_OF_CLOCKS "GLIBC_2.17"
#endif

#ifdef FIRST_VERSION
__asm__(".symver pthread_attr_setstacksize,pthread_attr_setstacksize@" FIRST_VERSION);
__asm__(".symver pthread_condattr_setclock,pthread_condattr_setclock@" FIRST_VERSION_OF_CLOCKS);
__asm__(".symver pthread_create,pthread_create@" FIRST_VERSION);
__asm__(".symver pthread_detach,pthread_detach@" FIRST_VERSION);
__asm__(".symver pthread_join,pthread_join@" FIRST_VERSION);
__asm__(".symver pthread_sigmask,pthread_sigmask@" FIRST_VERSION);
#endif
#endif

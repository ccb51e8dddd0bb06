// A library to preload: the wall clock of a process is off by what a file says, so that a test can make it jump.
// SHUCK_CLOCK_OFFSET names the file: a number of 64 bits, in seconds. Waits that end at a time of that clock follow.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_NS = 50000000 };

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_gettimeofday)(struct timeval *, void *);
static int (*real_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static const volatile int64_t *offset;

__attribute__((constructor)) static void begin(void)
{
	static const int64_t none;
	real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	real_gettimeofday = dlsym(RTLD_NEXT, "gettimeofday");
	// The plain name may be that of the form before glibc 2.3.2, which another library's conditions do not fit.
	real_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
	if (!real_timedwait)
		real_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
	const char *path = getenv("SHUCK_CLOCK_OFFSET");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
	offset = page == MAP_FAILED ? &none : page;
	if (file >= 0)
		close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	if (!real_clock_gettime)
		begin();
	int result = real_clock_gettime(clock, time);
	if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		time->tv_sec += *offset;
	return result;
}

int gettimeofday(struct timeval *time, void *zone)
{
	if (!real_gettimeofday)
		begin();
	int result = real_gettimeofday(time, zone);
	if (!result)
		time->tv_sec += *offset;
	return result;
}

// As the kernel has it when its clock jumps: the wait ends when that clock has reached the time.
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
	if (!real_timedwait)
		begin();
	if (until->tv_sec < 1000000000)
		return real_timedwait(condition, mutex, until);   // a time of CLOCK_MONOTONIC
	for (;;) {
		struct timespec now, slice;
		real_clock_gettime(CLOCK_REALTIME, &now);
		int64_t left = (until->tv_sec - *offset - now.tv_sec) * 1000000000 + until->tv_nsec - now.tv_nsec;
		if (left <= 0)
			return ETIMEDOUT;
		slice = now;
		slice.tv_nsec += left < SLICE_NS ? left : SLICE_NS;
		if (slice.tv_nsec >= 1000000000)
			slice.tv_sec++, slice.tv_nsec -= 1000000000;
		int result = real_timedwait(condition, mutex, &slice);
		if (result != ETIMEDOUT)
			return result;
	}
}

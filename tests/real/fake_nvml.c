/* A libnvidia-ml.so.1 for machines without a GPU: what it answers is said by the file `gpus` beside it.
 *
 *   gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 *
 * A line is a name and its value. Before the first `gpu`: init, version, cuda, and how it dies in nvmlInit:
 * `dies hang`, `dies abort`, `dies segfault`, `dies exit`, `prints yes`. `gpu NAME` begins a GPU, after which
 * major, minor, total, used, free (bytes), uuid, mig, fabric, process "PID BYTES", and `error FUNCTION CODE`
 * are that GPU's. Written from the declarations that nvidia-ml-py calls; numbers of errors as in nvml.h.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, NOT_FOUND = 6, TOO_SMALL = 7, UNKNOWN = 999 };
enum { MANY = 16, CARDS = 512 };

struct failure {
    char function[64];
    int code;
};

struct process {
    unsigned pid;
    unsigned long long bytes;
    unsigned instance, compute;
};

struct gpu {
    char name[96], uuid[96], mig_uuid[96];
    int major, minor, mig, migs, fabric, fabric_status, has_memory;
    unsigned long long total, used, free;
    struct process processes[MANY];
    struct failure failures[MANY];
    unsigned process_count, failure_count;
};

static struct gpu gpus[CARDS];
static unsigned gpu_count;
static int init_code, cuda = 12040, ready, prints;
static char version[80] = "550.54.14", dies[32];

static void field(struct gpu *gpu, const char *key, const char *value) {
    if (!strcmp(key, "major")) gpu->major = atoi(value);
    if (!strcmp(key, "minor")) gpu->minor = atoi(value);
    if (!strcmp(key, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%s", value);
    if (!strcmp(key, "mig")) gpu->mig = atoi(value);
    if (!strcmp(key, "migdevice")) snprintf(gpu->mig_uuid, sizeof gpu->mig_uuid, "%s", value), gpu->migs = 1;
    if (!strcmp(key, "fabric")) sscanf(value, "%d %d", &gpu->fabric, &gpu->fabric_status);
    if (!strcmp(key, "total")) gpu->total = strtoull(value, 0, 10), gpu->has_memory = 1;
    if (!strcmp(key, "used")) gpu->used = strtoull(value, 0, 10);
    if (!strcmp(key, "free")) gpu->free = strtoull(value, 0, 10);
    if (!strcmp(key, "process")) {
        struct process *held = &gpu->processes[gpu->process_count++];
        sscanf(value, "%u %llu", &held->pid, &held->bytes);
    }
    if (!strcmp(key, "error")) {
        struct failure *failure = &gpu->failures[gpu->failure_count++];
        sscanf(value, "%63s %d", failure->function, &failure->code);
    }
}

__attribute__((constructor)) static void read_file(void) {
    Dl_info self;
    char path[4096], line[512];
    dladdr((void *)read_file, &self);
    snprintf(path, sizeof path, "%s", self.dli_fname);
    snprintf(strrchr(path, '/') + 1, 8, "gpus");
    FILE *file = fopen(path, "r");
    struct gpu *gpu = 0;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *value = strchr(line, ' ');
        if (!value) continue;
        *value++ = 0;
        if (!strcmp(line, "gpu")) {
            gpu = &gpus[gpu_count++];
            gpu->mig = -1;
            gpu->fabric = -1;
            snprintf(gpu->name, sizeof gpu->name, "%s", value);
        } else if (gpu) field(gpu, line, value);
        else if (!strcmp(line, "init")) init_code = atoi(value);
        else if (!strcmp(line, "version")) snprintf(version, sizeof version, "%s", value);
        else if (!strcmp(line, "cuda")) cuda = atoi(value);
        else if (!strcmp(line, "dies")) snprintf(dies, sizeof dies, "%s", value);
        else if (!strcmp(line, "prints")) prints = 1;
    }
    if (file) fclose(file);
}

static int fails(struct gpu *gpu, const char *function) {
    if (!ready) return UNINITIALIZED;
    for (unsigned i = 0; i < gpu->failure_count; i++)
        if (!strcmp(gpu->failures[i].function, function)) return gpu->failures[i].code;
    return OK;
}
#define ASK(gpu) do { int code = fails(gpu, __func__); if (code) return code; } while (0)

static int text(char *to, unsigned room, const char *from) {
    if (strlen(from) + 1 > room) return TOO_SMALL;
    strcpy(to, from);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (prints) {
        printf("{\"gpus\": []}\nmore than anybody asked for\n");
        fflush(stdout);
        if (write(1, "}\n", 2) < 0) abort();
    }
    if (!strcmp(dies, "hang")) for (;;) sleep(60);
    if (!strcmp(dies, "abort")) fputs("NVML: assertion failed\n", stderr), abort();
    if (!strcmp(dies, "segfault")) *(volatile int *)8 = 1;
    if (!strcmp(dies, "exit")) _exit(7);
    ready = !init_code;
    return init_code;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); } /* by which torch asks */
int nvmlShutdown(void) { return ready = 0; }

int nvmlSystemGetDriverVersion(char *to, unsigned room) {
    return ready ? text(to, room, version) : UNINITIALIZED;
}
int nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = cuda; return ready ? OK : UNINITIALIZED; }
int nvmlDeviceGetCount_v2(unsigned *to) { *to = gpu_count; return ready ? OK : UNINITIALIZED; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **to) {
    if (index >= gpu_count) return INVALID;
    *to = &gpus[index];
    ASK(*to);
    return OK;
}
int nvmlDeviceGetName(struct gpu *gpu, char *to, unsigned room) {
    ASK(gpu);
    return text(to, room, gpu->name);
}
int nvmlDeviceGetUUID(struct gpu *gpu, char *to, unsigned room) {
    for (unsigned i = 0; i < gpu_count; i++)
        if ((char *)gpu == gpus[i].mig_uuid) return text(to, room, gpus[i].mig_uuid);
    ASK(gpu);
    return text(to, room, gpu->uuid);
}
int nvmlDeviceGetCudaComputeCapability(struct gpu *gpu, int *major, int *minor) {
    ASK(gpu);
    *major = gpu->major;
    *minor = gpu->minor;
    return OK;
}
int nvmlDeviceGetMemoryInfo(struct gpu *gpu, unsigned long long *to) {
    ASK(gpu);
    if (!gpu->has_memory) return NOT_SUPPORTED;
    to[0] = gpu->total;
    to[1] = gpu->free;
    to[2] = gpu->total - gpu->free; /* what the driver keeps for itself included */
    return OK;
}
/* `to` is version, total, reserved, free, used. */
int nvmlDeviceGetMemoryInfo_v2(struct gpu *gpu, unsigned long long *to) {
    ASK(gpu);
    if (!gpu->has_memory) return NOT_SUPPORTED;
    to[1] = gpu->total;
    to[2] = gpu->total - gpu->used - gpu->free;
    to[3] = gpu->free;
    to[4] = gpu->used;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *gpu, unsigned *count, struct process *to) {
    ASK(gpu);
    unsigned room = *count;
    *count = gpu->process_count;
    if (room < gpu->process_count) return TOO_SMALL;
    if (gpu->process_count) memcpy(to, gpu->processes, gpu->process_count * sizeof *to);
    return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct gpu *gpu, unsigned *count, struct process *to) {
    (void)to;
    ASK(gpu);
    *count = 0;
    return OK;
}
int nvmlDeviceGetMigMode(struct gpu *gpu, unsigned *current, unsigned *pending) {
    ASK(gpu);
    if (gpu->mig < 0) return NOT_SUPPORTED;
    *current = *pending = gpu->mig;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(struct gpu *gpu, unsigned *to) {
    ASK(gpu);
    *to = gpu->mig < 0 ? 0 : 7;
    return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(struct gpu *gpu, unsigned index, char **to) {
    ASK(gpu);
    *to = gpu->mig_uuid;
    return (int)index < gpu->migs ? OK : NOT_FOUND;
}
/* `to` is version, uuid[16 bytes], status, clique, state. */
int nvmlDeviceGetGpuFabricInfoV(struct gpu *gpu, unsigned *to) {
    ASK(gpu);
    if (gpu->fabric < 0) return NOT_SUPPORTED;
    to[5] = gpu->fabric_status;
    to[7] = gpu->fabric;
    return OK;
}

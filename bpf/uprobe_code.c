/* Owns the file and its mapping. */
#include "bpf/uprobe_code.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"

/* Newer than the headers that we build against: where vm.memfd_noexec is 1, files are executable that ask for it alone. */
#define MFD_EXEC_FLAG 0x10u

/* push %rbp; pop %rbp; ret. test %edi, %edi; ret. */
static const uint8_t emulated[] = {0x55, 0x5d, 0xc3}, stepped[] = {0x85, 0xff, 0xc3};

int uprobe_code_init(struct uprobe_code *ret)
{
    *ret = (struct uprobe_code){.bytes = (size_t)sysconf(_SC_PAGESIZE)};
    ret->fd = memfd_create("cprofd-probed", MFD_CLOEXEC | MFD_EXEC_FLAG);
    if (ret->fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        ret->fd = memfd_create("cprofd-probed", MFD_CLOEXEC);
    if (ret->fd < 0)
        return -errno;
    if (ftruncate(ret->fd, (off_t)ret->bytes) < 0 || pwrite(ret->fd, emulated, sizeof(emulated), UPROBE_CODE_EMULATED) != sizeof(emulated)
        || pwrite(ret->fd, stepped, sizeof(stepped), UPROBE_CODE_STEPPED) != sizeof(stepped))
        return -EIO;
    void *at = mmap(NULL, ret->bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, ret->fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    ret->at = at;
    return 0;
}

void uprobe_code_deinit(struct uprobe_code *code)
{
    if (code->at)
        (void)munmap(code->at, code->bytes);
    code->at = NULL;
    close_fd(&code->fd);
}

void uprobe_code_call(const struct uprobe_code *code, size_t offset)
{
    ((void (*)(int))(uintptr_t)(code->at + offset))(1);
}

/* Every name of a further file comes from a file that somebody else wrote, and is only asked for: the
 * callback confines it. What comes back is taken if build id or checksum agree; else names would be those
 * of another build.
 *
 * libdw would open a missing common (dwz) file by itself, by the hostile name. So DWARF that needs one is
 * given it, checked, before any DIE is read, or isn't used at all. */
#include "symbolize/debug_file.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "util/cleanup.h"

static bool has_dwarf(const struct elf_file *file)
{
    return elf_file_has_data(file, ".debug_info") || elf_file_has_data(file, ".zdebug_info");
}

bool debug_file_is_passing(int error)
{
    switch (-error) {
    case ETIMEDOUT:
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EIO:
    case EPIPE:
    case ECANCELED:
    case EHOSTUNREACH:
    case EBADMSG:
        return true;
    default:
        return false;
    }
}

static int file_request(struct debug_files *files, const struct symbolizer_ops *ops, void *userdata,
                        const struct debug_file_request *request, struct elf_file *ret)
{
    AUTO_CLOSE int fd = -1;
    int r = ops->open_debug_file(userdata, request, &fd);
    if (r == 0) {
        r = elf_file_open(fd, ret);
        files->error = r == -ENOMEM ? r : files->error;
    }
    files->incomplete = files->incomplete || debug_file_is_passing(r);
    return r;
}

static bool same_build_id(const struct elf_file *file, const char *wanted)
{
    char id[BUILD_ID_HEX_ROOM];
    elf_file_build_id(file, id);
    return id[0] != '\0' && strcmp(id, wanted) == 0;
}

static bool same_checksum(const struct elf_file *file, GElf_Word wanted)
{
    size_t size = 0;
    const char *bytes = elf_rawfile(file->elf, &size);
    return bytes && crc32_z(crc32_z(0, NULL, 0), (const Bytef *)bytes, size) == wanted;
}

/* Asks for a file by build id, and takes it if it has that one. */
static int file_by_id(struct debug_files *files, const struct symbolizer_ops *ops, void *userdata,
                      const struct debug_file_request *request, struct elf_file *ret)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    int r = file_request(files, ops, userdata, request, &file);
    if (r < 0)
        return r;
    if (!same_build_id(&file, request->build_id))
        return -ESTALE;
    *ret = file;
    file = (struct elf_file){0};
    return 0;
}

static int file_by_link(struct debug_files *files, const struct elf_file *main, const char *id,
                        const struct symbolizer_ops *ops, void *userdata, struct elf_file *ret)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    GElf_Word checksum = 0;
    struct debug_file_request request = {DEBUG_FILE_DEBUGLINK, dwelf_elf_gnu_debuglink(main->elf, &checksum),
                                         id[0] ? id : NULL};
    if (!request.name)
        return -ENOENT;
    int r = file_request(files, ops, userdata, &request, &file);
    if (r < 0)
        return r;
    if (!(id[0] && same_build_id(&file, id)) && !same_checksum(&file, checksum))
        return -ESTALE;
    *ret = file;
    file = (struct elf_file){0};
    return 0;
}

/* What is on this machine comes first: a server is slower, and learns of the asking. */
static int separate_open(struct debug_files *files, const struct elf_file *main,
                         const struct symbolizer_ops *ops, void *userdata)
{
    char id[BUILD_ID_HEX_ROOM];
    elf_file_build_id(main, id);
    struct debug_file_request by_id = {DEBUG_FILE_BUILD_ID, id, id}, by_server = {DEBUG_FILE_SERVER, id, id};
    if (id[0] && file_by_id(files, ops, userdata, &by_id, &files->separate) == 0)
        return 0;
    int r = file_by_link(files, main, id, ops, userdata, &files->separate);
    if (r < 0 && id[0])
        r = file_by_id(files, ops, userdata, &by_server, &files->separate);
    return r;
}

static int common_open(struct debug_files *files, const struct symbolizer_ops *ops, void *userdata)
{
    const char *name, *inner_name;
    const void *id, *inner_id;
    char hex[BUILD_ID_HEX_ROOM];
    ssize_t len = dwelf_dwarf_gnu_debugaltlink(files->dwarf.dwarf, &name, &id);
    if (len <= 0)
        return 0;
    build_id_to_hex(id, (size_t)len, hex);
    struct debug_file_request by_link = {DEBUG_FILE_ALTLINK, name, hex}, by_server = {DEBUG_FILE_SERVER, hex, hex};
    int r = file_by_id(files, ops, userdata, &by_link, &files->common);
    if (r < 0)
        r = file_by_id(files, ops, userdata, &by_server, &files->common);
    if (r < 0)
        return r;
    r = debug_dwarf_open(&files->common, DEBUG_IMAGE_NAMES, &files->common_dwarf);
    if (r < 0)
        return r;
    if (dwelf_dwarf_gnu_debugaltlink(files->common_dwarf.dwarf, &inner_name, &inner_id) > 0)
        return -ENOEXEC;
    dwarf_setalt(files->dwarf.dwarf, files->common_dwarf.dwarf);
    return 0;
}

void debug_files_open(const struct elf_file *main, const struct symbolizer_ops *ops, void *userdata,
                      struct debug_files *ret)
{
    struct debug_files files = {0};
    bool own = has_dwarf(main);
    if (!own)
        (void)separate_open(&files, main, ops, userdata);
    if (own || (files.separate.elf && has_dwarf(&files.separate)))
        files.error = debug_dwarf_open(own ? main : &files.separate, DEBUG_IMAGE_NAMES, &files.dwarf);
    int r = files.dwarf.dwarf ? common_open(&files, ops, userdata) : 0;
    if (r < 0) {
        debug_dwarf_close(&files.dwarf);
        files.error = r == -ENOMEM || r == -EFBIG ? r : -ENOLINK;
    }
    files.incomplete = files.incomplete || files.error == -ENOMEM;
    *ret = files;
}

void debug_files_close(struct debug_files *files)
{
    debug_dwarf_close(&files->frames);
    debug_dwarf_close(&files->dwarf);
    debug_dwarf_close(&files->common_dwarf);
    elf_file_close(&files->common);
    elf_file_close(&files->separate);
    *files = (struct debug_files){0};
}

Dwarf_CFI *debug_files_cfi(struct debug_files *files, const struct elf_file *main)
{
    if (files->dwarf.dwarf && !files->dwarf.image.elf)
        return dwarf_getcfi(files->dwarf.dwarf);
    if (!files->frames_tried) {
        files->frames_tried = true;
        (void)debug_dwarf_open(files->separate.elf ? &files->separate : main, DEBUG_IMAGE_FRAMES, &files->frames);
    }
    return files->frames.dwarf ? dwarf_getcfi(files->frames.dwarf) : NULL;
}

void debug_files_drop_pages(const struct debug_files *files)
{
    if (files->separate.elf)
        elf_file_drop_pages(&files->separate);
    if (files->common.elf)
        elf_file_drop_pages(&files->common);
}

size_t debug_files_mapped_bytes(const struct debug_files *files)
{
    return files->separate.map_bytes + files->common.map_bytes;
}

size_t debug_files_bytes(const struct debug_files *files)
{
    return elf_file_bytes(&files->separate) + elf_file_bytes(&files->common) + files->dwarf.image.map_bytes
           + files->common_dwarf.image.map_bytes + files->frames.image.map_bytes;
}

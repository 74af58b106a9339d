/* Preloaded into a process, notes and refuses everything that would leave the machine.
 *
 * Each look-up of a name and each address beyond loopback becomes a line in the file that
 * $NETWORK_WATCH names. Unlike a hook in Python this sees libraries in C as well, and unlike a network
 * namespace it needs no privileges. What calls the kernel without the C library is not seen.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static void note(const char *what, const char *whom) {
    const char *path = getenv("NETWORK_WATCH");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file < 0) return;
    dprintf(file, "%s %s\n", what, whom ? whom : "-");
    close(file);
}

static int is_local_name(const char *name) {
    struct in_addr v4;
    struct in6_addr v6;
    return !name || !strcmp(name, "localhost") || inet_pton(AF_INET, name, &v4) == 1 ||
           inet_pton(AF_INET6, name, &v6) == 1;
}

/* Whether an address is refused; notes it then. */
static int leaves(const char *what, const struct sockaddr *address) {
    char text[INET6_ADDRSTRLEN] = "";
    if (!address) return 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        if (ntohl(v4->sin_addr.s_addr) >> 24 == 127) return 0;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;
        if (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)) return 0;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == 127) return 0;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    } else {
        return 0;
    }
    note(what, text);
    errno = ENETUNREACH;
    return 1;
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    return leaves("connect", address) ? -1 : NEXT(connect)(fd, address, length);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address,
               socklen_t length) {
    if (leaves("sendto", address)) return -1;
    return NEXT(sendto)(fd, data, size, flags, address, length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return leaves("sendmsg", message->msg_name) ? -1 : NEXT(sendmsg)(fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    for (unsigned int i = 0; i < count; i++)
        if (leaves("sendmmsg", messages[i].msg_hdr.msg_name)) return -1;
    return NEXT(sendmmsg)(fd, messages, count, flags);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    if (is_local_name(name)) return NEXT(getaddrinfo)(name, service, hints, found);
    note("resolve", name);
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name) {
    if (is_local_name(name)) return NEXT(gethostbyname)(name);
    note("resolve", name);
    h_errno = NO_RECOVERY;
    return NULL;
}

struct hostent *gethostbyname2(const char *name, int family) {
    if (is_local_name(name)) return NEXT(gethostbyname2)(name, family);
    note("resolve", name);
    h_errno = NO_RECOVERY;
    return NULL;
}

int gethostbyname_r(const char *name, struct hostent *entry, char *buffer, size_t size,
                    struct hostent **found, int *error) {
    if (is_local_name(name)) return NEXT(gethostbyname_r)(name, entry, buffer, size, found, error);
    note("resolve", name);
    *found = NULL;
    return *error = NO_RECOVERY;
}

// Runs inside the emulated machine: requests each path of standard input from shuck's socket, as `shuck status`
// does for one path, and prints each answer.
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void ask(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/shuck/shuck.sock"};
    int file = socket(AF_UNIX, SOCK_STREAM, 0);
    if (file < 0 || connect(file, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "%s", address.sun_path);
    dprintf(file, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    char buffer[4096];
    ssize_t count;
    while ((count = read(file, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, (size_t)count, stdout);
    if (count < 0)
        err(1, "read");
    close(file);
}

int main(void)
{
    char line[512];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        ask(line);
    }
    return 0;
}

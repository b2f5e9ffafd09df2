import type { CommandSpec } from '../command.ts';
import { eventNote, eventOptions, recordOption } from '../event-options.ts';
import { deviceOptions } from '../serve/device-options.ts';
import { file, integer, orUnlimited, servable, size } from '../values.ts';

/** A server listens in one place. */
const apart = (name: string) => ['fd', 'stdio', 'socketPath'].filter((other) => other !== name);

export const serve: CommandSpec = {
  name: 'serve',
  summary: 'put a device behind a socket, for virtual machines and drivers (vfio-user)',
  arguments: [
    {
      name: '<devices...>',
      help: 'a model of the package (nvme, 82576, edu, bench, endpoint-test, virtio-rng), a file with a device (./my-device.ts), or a machine (./machine.yaml); several devices have a socket each',
      kind: servable,
    },
  ],
  options: [
    {
      flags: '-s, --socket-path <path>',
      help: 'the socket; of a machine or of several devices, the directory of their sockets. Default: $XDG_RUNTIME_DIR/vfio-ts/NAME.sock',
      kind: file(),
      conflicts: apart('socketPath'),
    },
    {
      flags: '--fd <number>',
      help: 'a socket that this process was started with, listening or connected',
      kind: integer(0, 999_999_999),
      conflicts: apart('fd'),
    },
    { flags: '--stdio', help: 'one client, on standard input and output', conflicts: apart('stdio') },
    {
      flags: '--watch',
      help: 'load the code of the device anew when it changes: clients are disconnected, and the next one gets the new device',
    },
    {
      flags: '--memlock <size>',
      help: 'how much memory a client may map, such as 2G, or unlimited. Default: the RLIMIT_MEMLOCK of the client',
      kind: orUnlimited(size),
    },
    {
      flags: '--allow-any-file',
      help: "a client's memory may be a file on a disk, too; the file system of such a file can stop the server",
    },
    {
      flags: '--max-sparse <size>',
      help: 'how much memory without pages a client may map in all, or unlimited: the server allocates those pages and pays for them',
      kind: orUnlimited(size),
    },
    {
      flags: '--no-spin',
      help: 'sleep at once when a client has nothing to say: slower answers, and no processor time before the sleep',
    },
    {
      flags: '--threads <number>',
      help: 'the most threads for several devices, or for a machine; 1: all run in one. Default: one for each that shares nothing with others, 31 at most',
      kind: integer(1, 31),
    },
    {
      flags: '--vf-token-file <file>',
      help: 'of a machine: the VF token, by which the sockets of virtual functions open them for clients that show none, as QEMU; in a file that only you can read',
      kind: file(),
    },
    { flags: '--no-manage', help: 'leave out the second socket, PATH.manage, through which vfio migrate moves the device' },
    ...eventOptions,
    recordOption,
    {
      flags: '--mediator <file>',
      help: 'a mediator of yours (docs/mediation.md); a further one is asked next',
      kind: file('.ts', '.mts', '.js', '.mjs'),
      repeats: true,
    },
    ...deviceOptions,
  ],
  notes: [
    'Sockets that systemd listens at are taken, one for each device, where none of --socket-path, --fd and --stdio is given (docs/host.md).',
    'Each client gets the device as it is after power-on. The socket has mode 0600. The command runs until Ctrl-C, SIGTERM or SIGHUP.',
    'A machine has one socket for each function that vfio-pci drives. The machine stays as clients come and go.',
    'Devices that share nothing run in threads of their own: a slow one delays no other, and one that fails takes no other along (docs/threads.md).',
    eventNote,
  ],
  examples: [
    'vfio serve nvme --image disk.img --size 10G',
    'vfio serve nvme --image debian.img --overlay',
    'vfio serve edu --record traffic.jsonl',
    'vfio serve nvme --events disk.pftrace --events disk.pcapng',
    'vfio serve edu --mediator ./counter.ts',
    'vfio serve ./examples/hello-device.ts --socket-path /tmp/hello.sock --watch',
    'vfio serve examples/machines/sriov.yaml --socket-path /tmp/card',
    'vfio serve nvme,size=1G edu ./my-device.ts --socket-path /tmp/devices',
  ],
  run: async () => (await import('../serve/serve.ts')).serve,
};

import { dirname } from 'node:path';
import type { CommandContext, CommandSpec } from '../command.ts';
import { vfTokenOption } from '../options.ts';
import { address, file, oneOf } from '../values.ts';
import type { VfTokenOptions } from '../vf-token-file.ts';

export const lend: CommandSpec = {
  name: 'lend',
  summary: 'open a device of this computer for the programs that ask at a socket, which need no right to open it',
  arguments: [{ name: '<address>', help: '0000:03:00.0, or mdev:UUID', kind: address }],
  options: [
    { flags: '-s, --socket-path <path>', help: 'the socket. Default: $XDG_RUNTIME_DIR/vfio-ts/ADDRESS.sock', kind: file() },
    { flags: '-u, --user <user>', help: 'give the socket to this user, by name or number. Default: the user who runs the command' },
    {
      flags: '--via <way>',
      help: "open the device by its 'group', or by its own file, 'cdev'. Default: cdev where the computer has it",
      kind: oneOf(['group', 'cdev']),
    },
    { flags: '--unsafe-noiommu', help: 'also a device without an IOMMU, which can write anywhere in memory' },
    vfTokenOption,
  ],
  notes: [
    "A program opens the device as lent:PATH. One program has it at a time; the memory that it maps counts against that program's limit (ulimit -l).",
    'When that program ends, the kernel quiets and resets the device, and the next program can have it. When vfio lend ends, the program goes on.',
    'The socket has mode 0600. The command runs until Ctrl-C, SIGTERM or SIGHUP.',
  ],
  examples: ['vfio lend 0000:03:00.0 --socket-path /run/disk.sock --user alice', 'vfio run driver.ts lent:/run/disk.sock'],
  run: async () => lendDevice,
};

interface Options extends VfTokenOptions {
  readonly socketPath?: string;
  readonly user?: string;
  readonly via?: 'group' | 'cdev';
  readonly unsafeNoiommu?: boolean;
}

async function lendDevice({ terminal }: CommandContext, options: Options, at: string): Promise<number> {
  const { tokenOf } = await import('../vf-token-file.ts');
  const { untilStopped } = await import('../until-stopped.ts');
  const { lend } = await import('../../api/lend.ts');
  const { makeSocketDirectory, socketPathOf } = await import('../../api/socket-path.ts');
  const path = options.socketPath ?? socketPathOf(at.replace(/^mdev:/, ''));
  makeSocketDirectory(dirname(path));
  using stop = untilStopped();
  using _output = await terminal.serve();
  using lender = lend(at, {
    path,
    user: options.user,
    via: options.via,
    unsafeNoIommu: options.unsafeNoiommu,
    token: tokenOf(options, terminal),
    log: { log: (level, text) => void (level === 'debug' || terminal.err(level === 'info' ? text : `${level}: ${text}`)) },
  });
  terminal.out(`lent:${lender.path}`);
  return await stop.status;
}

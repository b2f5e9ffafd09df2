import type { CommandSpec } from '../command.ts';
import { eventNote, eventOptions } from '../event-options.ts';
import { jsonOption } from '../options.ts';
import { file, integer, orUnlimited, socket } from '../values.ts';

/** Questions to one server. */
const asks = ['status', 'resume', 'letGo'];
const apart = (name: string) => [...asks.filter((other) => other !== name), 'receive', 'downtimeMs', 'events'];

export const migrate: CommandSpec = {
  name: 'migrate',
  summary: 'move a served device, with the memory that it may touch, to another server while it is used',
  arguments: [
    {
      name: '<source>',
      help: 'unix:PATH, the server that has the device; with --receive the one that gets it, with --status the one that is asked',
      kind: socket,
    },
    { name: '[destination]', help: 'unix:PATH, tcp:HOST:PORT or exec:COMMAND', kind: socket },
  ],
  options: [
    {
      flags: '-d, --downtime-ms <ms>',
      help: 'stop the device for at most so many milliseconds, or unlimited. Default: 300',
      kind: orUnlimited(integer(1, 9_999_999)),
    },
    { flags: '-k, --key-file <file>', help: 'for tcp: the key that both ends have', kind: file() },
    {
      flags: '-r, --receive [address]',
      help: 'wait at tcp:HOST:PORT for a device, or take it with --stdio',
      conflicts: ['downtimeMs'],
    },
    { flags: '--stdio', help: 'with --receive: from standard input and output, for exec:' },
    { flags: '--status', help: 'print the state of the server', conflicts: apart('status') },
    { flags: '--resume', help: 'a move in doubt did not arrive: the device goes on here', conflicts: apart('resume') },
    {
      flags: '--let-go',
      help: 'a move in doubt has arrived, or a moved device is not wanted: this server gives it up',
      conflicts: apart('letGo'),
    },
    ...eventOptions,
    { ...jsonOption, help: 'print the figures, or the status, as JSON' },
  ],
  notes: [
    'The device runs at the source until the destination has all of it; a failure before that leaves it there. Its client is then disconnected, and takes the device up at the destination with open(address, { adopt: true }).',
    'Events are the stages of the move. The servers at both ends have those of the device: vfio serve --events FILE.',
    eventNote,
  ],
  examples: [
    'vfio migrate unix:/tmp/a.sock unix:/tmp/b.sock',
    '# there, then here:',
    'vfio migrate --receive tcp:0.0.0.0:4321 --key-file key unix:/tmp/b.sock',
    'vfio migrate unix:/tmp/a.sock tcp:there:4321 --key-file key',
    'vfio migrate unix:/tmp/a.sock \\\n    "exec:ssh there vfio migrate --receive --stdio unix:/tmp/b.sock"',
    'vfio migrate --status unix:/tmp/b.sock',
  ],
  run: async () => (await import('../migrate/migrate.ts')).migrate,
};

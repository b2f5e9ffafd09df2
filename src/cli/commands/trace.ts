import type { CommandSpec } from '../command.ts';
import { dataOption } from '../event-options.ts';
import { file, socket } from '../values.ts';

export const trace: CommandSpec = {
  name: 'trace',
  summary: 'stand between a vfio-user server and its clients, and print their messages in words',
  arguments: [{ name: '<address>', help: 'the server, unix:PATH', kind: socket }],
  options: [
    { flags: '-l, --listen <path>', help: 'the socket that clients connect to instead', kind: file(), required: true },
    {
      flags: '-w, --write <file>',
      help: 'keep the messages in a file: pcapng for Wireshark, or as the name ends',
      kind: file(),
    },
    dataOption,
    { flags: '-q, --quiet', help: 'print no messages' },
  ],
  notes: ['The command runs until Ctrl-C, SIGTERM or SIGHUP.'],
  examples: [
    'vfio serve edu --socket-path /tmp/edu.sock &',
    'vfio trace unix:/tmp/edu.sock --listen /tmp/seen.sock --write edu.pcapng &',
    'vfio config unix:/tmp/seen.sock',
  ],
  run: async () => (await import('../trace/trace-command.ts')).traceServer,
};

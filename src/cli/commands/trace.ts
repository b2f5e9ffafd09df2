import { Command } from 'commander';
import { parseAddress } from '../../api/address.ts';
import { VfioError } from '../../base/errno.ts';
import type { CommandContext } from '../command.ts';
import { trace } from '../trace/trace.ts';
import { untilStopped } from '../until-stopped.ts';

interface Options {
  readonly listen: string;
  readonly write?: string;
  readonly quiet?: boolean;
}

export function traceCommand({ terminal, exit }: CommandContext): Command {
  return new Command('trace')
    .description('stand between a vfio-user server and its clients, and tell what they say')
    .argument('<address>', 'the server, unix:PATH')
    .requiredOption('-l, --listen <path>', 'where clients are to connect instead')
    .option('-w, --write <file>', 'keep the messages in a pcapng file, for Wireshark with tools/vfio-user.lua')
    .option('-q, --quiet', 'do not print messages')
    .addHelpText(
      'after',
      `
Goes on until it is told to stop (Ctrl-C, SIGTERM, SIGHUP).

Example:
  vfio serve edu --socket-path /tmp/edu.sock &
  vfio trace unix:/tmp/edu.sock --listen /tmp/seen.sock --write edu.pcapng &
  vfio config unix:/tmp/seen.sock`,
    )
    .action(async (address: string, options: Options) => {
      const parsed = parseAddress(address);
      if (parsed.kind !== 'socket') throw new VfioError('EINVAL', `${address} is not a socket`, { fix: "Give it as 'unix:PATH'." });
      using stop = untilStopped();
      using _log = terminal.serve();
      using _running = trace({
        server: parsed.path,
        listen: options.listen,
        ...(options.write === undefined ? {} : { write: options.write }),
        ...(options.quiet === true ? {} : { onLine: (line) => terminal.out(line) }),
        onEvent: (text) => terminal.err(text),
      });
      terminal.err(`listening at ${options.listen} for clients of ${parsed.path}`);
      exit(await stop.told);
    });
}

/** `vfio trace`: prints and keeps the messages of a server and its clients until a signal. */
import { parseAddress } from '../../api/address.ts';
import { VfioError } from '../../base/errno.ts';
import type { CommandContext } from '../command.ts';
import { untilStopped } from '../until-stopped.ts';
import { trace } from './trace.ts';

interface Options {
  readonly listen: string;
  readonly write?: string;
  readonly data?: boolean;
  readonly quiet?: boolean;
}

export async function traceServer({ terminal }: CommandContext, options: Options, address: string): Promise<number> {
  const parsed = parseAddress(address);
  if (parsed.kind !== 'socket') throw new VfioError('EINVAL', `${address} is not a socket`, { fix: "Give it as 'unix:PATH'." });
  using stop = untilStopped();
  using _output = await terminal.serve();
  using _running = trace({
    server: parsed.path,
    listen: options.listen,
    ...(options.write === undefined ? {} : { write: options.write }),
    data: options.data ?? false,
    ...(options.quiet === true ? {} : { onLine: (line) => terminal.out(line) }),
    onEvent: (text) => terminal.err(text),
  });
  terminal.err(`listening at ${options.listen} for clients of ${parsed.path}`);
  return await stop.status;
}

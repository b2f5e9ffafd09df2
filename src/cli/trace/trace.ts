/**
 * `vfio trace`: a proxy at a socket of its own, whose stream of messages is printed line by line,
 * and kept in a file on request.
 */
import { writeEvents } from '../../api/event-file.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { withoutCompression } from '../../base/compressed-name.ts';
import { type FormatName, formatOfName } from '../../events/printers/format-files.ts';
import { secondsColumn } from '../../events/printers/text.ts';
import { EventStream } from '../../events/stream.ts';
import { UnixListener } from '../../sys/unix-listener.ts';
import { checkIsSocketFile, UnixSocket } from '../../sys/unix-socket.ts';
import { lineOf } from './describe-message.ts';
import { MessageProxy } from './proxy.ts';

export interface TraceOptions {
  /** The server's socket. */
  readonly server: string;
  /** The socket to which clients connect instead. */
  readonly listen: string;
  /** A file of events to write: pcapng, unless the name ends as that of another format. */
  readonly write?: string;
  /** Also the bytes of memory that messages carry. Default: false. */
  readonly data?: boolean;
  /** Receives each message as a line. Default: no lines. */
  readonly onLine?: (line: string) => void;
  /** Receives events of connections. */
  readonly onEvent: (text: string) => void;
}

/**
 * Runs until it is disposed.
 *
 * @throws VfioError EADDRINUSE, EINVAL, EACCES; ENOENT when the file cannot be written
 */
export function trace(options: TraceOptions): Disposable {
  const { server: path, write, data = false, onLine, onEvent } = options;
  checkIsSocketFile(path);
  using undo = new Cleanup();
  const stream = undo.use(new EventStream());
  if (write !== undefined) {
    const log = { log: (_: string, text: string) => onEvent(text) };
    undo.use(writeEvents(stream, write, { ...formatOf(write), data, log }));
  }
  const beganNs = stream.clock.nowNs();
  const reader = onLine === undefined ? null : undo.use(stream.read({ kinds: ['message'], data }));
  /** Clients after the first have their number before each line, by the name of their source. */
  const names = new Map<string, string>();
  // At once, so that lines and events of connections are in order.
  const print = (): void => {
    for (const event of reader?.take() ?? []) {
      if (event.kind !== 'message') continue;
      onLine?.(`${secondsColumn(event.timeNs - beganNs)}  ${names.get(event.device) ?? ''}${lineOf(event)}`);
    }
  };
  const listener = undo.use(UnixListener.listen(options.listen));
  const proxies = new Set<MessageProxy>();
  undo.defer(() => {
    for (const proxy of [...proxies]) proxy[Symbol.dispose]();
  });
  let clients = 0;
  listener.onConnection((client) => {
    const number = ++clients;
    let server: UnixSocket;
    try {
      server = UnixSocket.connect(path);
    } catch (error) {
      client[Symbol.dispose]();
      onEvent(`client ${number}: ${(error as Error).message}`);
      return;
    }
    const events = stream.source(number === 1 ? `unix:${path}` : `unix:${path}, client ${number}`);
    if (number > 1) names.set(events.name, `client ${number}  `);
    const proxy = new MessageProxy(client, server, {
      events,
      onMessage: print,
      onEnd: (reason) => {
        proxies.delete(proxy);
        names.delete(events.name);
        events[Symbol.dispose]();
        onEvent(`client ${number}: ${reason}`);
      },
    });
    proxies.add(proxy);
    onEvent(`client ${number}: connected, pid ${client.peer.pid}`);
  });
  return undo.move();
}

/** The format that a name says; a capture where it says none. */
function formatOf(path: string): { readonly format?: FormatName } {
  return formatOfName(withoutCompression(path)) === null ? { format: 'pcapng' } : {};
}

/**
 * `vfio trace`: a proxy at a socket of its own, which prints messages line by line, and keeps them
 * in a file on request.
 */
import { Cleanup } from '../../base/cleanup.ts';
import { UnixListener } from '../../sys/unix-listener.ts';
import { checkIsSocketFile, UnixSocket } from '../../sys/unix-socket.ts';
import { masked } from '../../vfio-user/messages/masked.ts';
import { CaptureFile } from './capture-file.ts';
import { describeMessage } from './describe-message.ts';
import { MessageProxy, type SeenMessage } from './proxy.ts';

export interface TraceOptions {
  /** The server's socket. */
  readonly server: string;
  /** The socket to which clients connect instead. */
  readonly listen: string;
  /** A pcapng file to write. */
  readonly write?: string;
  /** Receives each message as a line. Default: no lines. */
  readonly onLine?: (line: string) => void;
  /** Receives events of connections. */
  readonly onEvent: (text: string) => void;
}

/**
 * Runs until it is disposed.
 * @throws VfioError EADDRINUSE, EINVAL, EACCES; ENOENT when the file cannot be written
 */
export function trace(options: TraceOptions): Disposable {
  checkIsSocketFile(options.server);
  using undo = new Cleanup();
  const capture = options.write === undefined ? null : undo.use(new CaptureFile(options.write, `unix:${options.server}`, options.onEvent));
  const listener = undo.use(UnixListener.listen(options.listen));
  const proxies = new Set<MessageProxy>();
  undo.defer(() => {
    for (const proxy of [...proxies]) proxy[Symbol.dispose]();
  });
  const begun = performance.now();
  let clients = 0;
  listener.onConnection((client) => {
    const number = ++clients;
    const name = number === 1 ? '' : `client ${number}  `;
    let server: UnixSocket;
    try {
      server = UnixSocket.connect(options.server);
    } catch (error) {
      client[Symbol.dispose]();
      options.onEvent(`client ${number}: ${(error as Error).message}`);
      return;
    }
    const proxy = new MessageProxy(client, server, {
      onMessage: (seen) => {
        const message = { ...seen, bytes: masked(seen.bytes) };
        capture?.add(message);
        options.onLine?.(`${((performance.now() - begun) / 1000).toFixed(6).padStart(12)}  ${name}${lineOf(message)}`);
      },
      onEnd: (reason) => {
        proxies.delete(proxy);
        options.onEvent(`client ${number}: ${reason}`);
      },
    });
    proxies.add(proxy);
    options.onEvent(`client ${number}: connected, pid ${client.peer.pid}`);
  });
  return undo.move();
}

/** `->  #12 REGION_READ            CONFIG+0x0, 4 bytes`: an arrow to the server or back. */
export function lineOf({ direction, bytes, fds, twin }: SeenMessage): string {
  const { id, command, kind, text } = describeMessage(bytes);
  const arrow = direction === 'to server' ? '->' : '<-';
  const what = `${command}${kind === 'command' ? '' : ` ${kind}`}`;
  const along = fds.length === 0 ? '' : `  with ${fds.join(', ')}`;
  return `${arrow}${twin ? ' twin' : ''}  #${String(id).padEnd(5)} ${what.padEnd(28)} ${text}${along}`.trimEnd();
}

/**
 * Opens the ends of a move: the door of a server, a TCP connection that the shared key protects,
 * the standard streams of a command.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { Errno, type ErrnoName, VfioError } from '../../base/errno.ts';
import { socketAddress } from '../../sys/unix-socket.ts';
import { managePathOf, noDoor } from './door.ts';
import type { Endpoint } from './endpoint.ts';
import { Strangers } from './strangers.ts';

/** Bytes in both directions. */
export interface Pipe {
  /** The name in messages. */
  readonly name: string;
  readonly input: Readable;
  readonly output: Writable;
  /** Close at once, even in the middle of a transfer. */
  close(): void;
}

/**
 * TLS 1.2 has the pre-shared keys that Node.js supports. The cipher is ephemeral, so that a key
 * that leaks later opens no traffic that was sent before.
 */
const CIPHERS = 'ECDHE-PSK-CHACHA20-POLY1305';
const IDENTITY = 'vfio-ts-move';
const KEY_LEAST_BYTES = 32;
const KEY_FILE_MAX_BYTES = 4096;
const CONNECT_MS = 20_000;
/** The most connections at one time that have not shown the key. */
const STRANGERS_MAX = 256;

/**
 * The key in a file that only its owner may read: at least 32 characters, as `openssl rand -hex 32`
 * makes them.
 *
 * @throws VfioError ENOENT, EACCES, EINVAL
 */
export function readKey(file: string): Uint8Array {
  let text: string;
  let fd = -1;
  try {
    fd = openSync(file, 'r');
    // The check reads the open file: another file may be at the path by now.
    const { mode, size, uid } = fstatSync(fd);
    if ((mode & 0o077) !== 0) {
      throw new VfioError('EACCES', `others may read the key in ${file}`, { fix: `chmod 600 ${file}` });
    }
    const own = process.geteuid!();
    if (uid !== own && uid !== 0)
      throw new VfioError('EACCES', `the key in ${file} is user ${uid}'s, who knows the key`, { fix: 'Use one of your own.' });
    if (size > KEY_FILE_MAX_BYTES) throw new VfioError('EINVAL', `${file} has ${size} bytes, too many for a key`);
    text = readFileSync(fd, 'utf8').trim();
  } catch (cause) {
    if (cause instanceof VfioError) throw cause;
    throw new VfioError((cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'ENOENT' : 'EACCES', `the key file ${file} cannot be read`, {
      cause,
      fix: `Make one, the same on both machines: (umask 077; openssl rand -hex 32 > ${file})`,
    });
  } finally {
    if (fd >= 0) closeSync(fd);
  }
  if (text.length < KEY_LEAST_BYTES) {
    throw new VfioError('EINVAL', `the key in ${file} has ${text.length} characters; it needs ${KEY_LEAST_BYTES}`, {
      fix: `Make one: (umask 077; openssl rand -hex 32 > ${file})`,
    });
  }
  return createHash('sha256').update(text).digest();
}

/**
 * @param key for TCP
 * @throws VfioError (rejects) ENOENT; ECONNREFUSED, ETIMEDOUT when no command waits there; EACCES
 *   for another key; EINVAL for TCP without a key
 */
export async function connectEndpoint(endpoint: Endpoint, key: Uint8Array | null): Promise<Pipe> {
  switch (endpoint.kind) {
    case 'server':
      return await connectDoorPipe(endpoint.path);
    case 'tcp':
      return await connectTcp(endpoint.host, endpoint.port, needed(key));
    case 'exec':
      return run(endpoint.command);
  }
}

function needed(key: Uint8Array | null): Uint8Array {
  if (key !== null) return key;
  throw new VfioError('EINVAL', 'a device moves over TCP only with a key that both ends have', {
    fix: 'Give --key-file FILE on both sides: (umask 077; openssl rand -hex 32 > FILE)',
  });
}

async function connectDoorPipe(path: string): Promise<Pipe> {
  const socket = connectSocket(socketAddress(managePathOf(path)));
  const connected = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    socket.once('connect', () => resolve(null));
    socket.once('error', resolve);
  });
  if (connected === null) return pipeOf(`unix:${path}`, socket);
  throw noDoor(path, codeOf(connected), connected);
}

function pipeOf(name: string, socket: Readable & Writable): Pipe {
  return { name, input: socket, output: socket, close: () => socket.destroy() };
}

async function connectTcp(host: string, port: number, key: Uint8Array): Promise<Pipe> {
  const name = `tcp:${host}:${port}`;
  const socket = connectTls({
    host,
    port,
    ciphers: CIPHERS,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.2',
    pskCallback: () => ({ psk: key, identity: IDENTITY }),
    // The key proves the identity: there is no certificate whose name could be checked.
    checkServerIdentity: () => undefined,
  });
  const timer = setTimeout(() => socket.destroy(Object.assign(new Error('too late'), { code: 'ETIMEDOUT' })), CONNECT_MS);
  const failed = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    socket.once('secureConnect', () => resolve(null));
    socket.once('error', resolve);
    socket.once('close', () => resolve(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
  });
  clearTimeout(timer);
  if (failed === null) return pipeOf(name, socket.setNoDelay(true));
  const known = codeOf(failed);
  if (known === 'ECONNREFUSED' || known === 'ETIMEDOUT') {
    throw new VfioError(known, `no command waits for a device at ${name}`, {
      cause: failed,
      fix: `Start there: vfio migrate --receive tcp:0.0.0.0:${port} --key-file FILE unix:/path.sock`,
    });
  }
  if (known === 'ECONNRESET' || known === 'EPIPE') {
    throw new VfioError(known, `${name} closed the connection before any key was compared`, {
      cause: failed,
      fix: 'Another source was first, or too many connect there at once. Try again, and open the port only to the source.',
    });
  }
  throw new VfioError('EACCES', `${name} has another key, or is not vfio migrate --receive`, {
    cause: failed,
    fix: 'Use the same key file on both sides.',
  });
}

function codeOf(error: NodeJS.ErrnoException): ErrnoName {
  return error.code !== undefined && Object.hasOwn(Errno, error.code) ? (error.code as ErrnoName) : 'EIO';
}

/** A command of the shell. Its standard error goes to this process's standard error. */
function run(command: string): Pipe {
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'pipe', 'inherit'] });
  const close = (): void => {
    child.stdin.destroy();
    child.stdout.destroy();
    child.kill();
  };
  return { name: `'${command}'`, input: child.stdout, output: child.stdin, close };
}

export function stdioPipe(): Pipe {
  const close = (): void => {
    process.stdin.destroy();
  };
  return { name: 'standard input', input: process.stdin, output: process.stdout, close };
}

export interface TcpReceiver extends Disposable {
  readonly port: number;
  /** The first connection that shows the key. Later connections are refused. */
  readonly connected: Promise<Pipe>;
}

/**
 * Wait for a source.
 *
 * @param onRefused called for each connection that does not show the key
 * @throws VfioError (rejects) EADDRINUSE, EACCES, EINVAL
 */
export async function receiveTcp(
  host: string,
  port: number,
  key: Uint8Array | null,
  onRefused: () => void,
  clock: Clock = new SystemClock(),
): Promise<TcpReceiver> {
  const psk = needed(key);
  const server = createTlsServer({
    ciphers: CIPHERS,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.2',
    // The clock's timeout is the one that counts, from the connection on.
    handshakeTimeout: 2 * CONNECT_MS,
    pskCallback: (_socket, identity) => (identity === IDENTITY ? psk : null),
  });
  const strangers = new Strangers<Socket>({ clock, max: STRANGERS_MAX, timeoutMs: CONNECT_MS, drop: (socket) => socket.destroy() });
  server.on('connection', (socket: Socket) => {
    socket.once('close', () => strangers.remove(socket));
    socket.on('error', () => {});
    strangers.add(socket, socket.remoteAddress);
  });
  let known: Socket | null = null;
  const connected = new Promise<Pipe>((resolve) => {
    server.on('secureConnection', (socket: TLSSocket) => {
      if (known !== null) {
        socket.destroy();
        return;
      }
      known = socket;
      server.close();
      strangers.keepOnly((other) => isSame(other, socket));
      resolve(pipeOf(`tcp:${socket.remoteAddress}:${socket.remotePort}`, socket.setNoDelay(true)));
    });
  });
  server.on('tlsClientError', onRefused);
  const failed = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    server.once('error', resolve);
    server.listen(port, host, () => resolve(null));
  });
  if (failed !== null) throw new VfioError(codeOf(failed), `waiting at tcp:${host}:${port}: ${failed.message}`, { cause: failed });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    connected,
    [Symbol.dispose]: () => {
      server.close();
      if (known === null) strangers[Symbol.dispose]();
    },
  };
}

/** A connection, and the frames that it carries. */
function isSame(a: Socket, b: Socket): boolean {
  return a.remotePort === b.remotePort && a.remoteAddress === b.remoteAddress;
}

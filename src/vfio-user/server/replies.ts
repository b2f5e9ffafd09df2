/** Replies to a client's commands, on the main socket: now, later, and errors. */
import { HEADER_BYTES, HeaderFlags } from '../../abi/vfio-user.ts';
import { Errno, errnoOf, VfioError } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { commandName, encodeReason, putHeader } from '../messages.ts';
import type { ServerChannel } from './channel.ts';

const EMPTY = new Uint8Array(0);

export interface RepliesOptions {
  readonly channel: ServerChannel;
  /** The session has ended: its client gets no reply any more. */
  readonly isClosed: () => boolean;
  /** An error of the server, or of code that it calls, for the log. */
  readonly onBug: (what: string, error: unknown) => void;
  /** The stream failed. */
  readonly onLost: (error: unknown) => void;
  /** Where the server emits. */
  readonly events: EventSource;
}

export class Replies {
  readonly #options: RepliesOptions;
  /** Bytes of the reason of an error at most. 0: the client does not read reasons. */
  reasonBytes = 0;

  constructor(options: RepliesOptions) {
    this.#options = options;
  }

  /** @param fds the writer's from here on */
  put(id: number, command: number, payload: Uint8Array, fds?: readonly OwnedFd[]): void {
    this.#options.channel.writer.commit(this.fill(id, command, payload), fds);
  }

  /**
   * Builds a reply where the writer's `begin` has room for it.
   * @returns its bytes: commit or hold them
   */
  fill(id: number, command: number, payload: Uint8Array): number {
    const { writer } = this.#options.channel;
    const size = HEADER_BYTES + payload.length;
    const at = writer.begin(size);
    putHeader(writer.view, at, id, command, size, HeaderFlags.REPLY);
    writer.bytes.set(payload, at + HEADER_BYTES);
    return size;
  }

  /** The device wants the reply that `begin` has room for to wait: keeps it, and goes on. */
  hold(held: Promise<void>, size: number): void {
    const { channel, isClosed, onBug, onLost, events } = this.#options;
    const { writer } = channel;
    const { cause } = events;
    const at = writer.begin(size);
    const reply = writer.bytes.slice(at, at + size);
    channel.hold(size);
    const answer = () => {
      if (isClosed()) return;
      writer.bytes.set(reply, writer.begin(size));
      const before = events.cause;
      events.cause = cause;
      writer.commit(size);
      events.cause = before;
      channel.send();
      channel.hold(-size);
    };
    // The device promises not to reject. When it rejects all the same, its client still gets an
    // answer.
    held
      .then(answer, (error: unknown) => {
        onBug('an answer that waited', error);
        answer();
      })
      .catch(onLost);
  }

  /**
   * Answers with the errno: a header alone, and the reason for a client that reads it. With
   * NO_REPLY nothing.
   */
  fail(id: number, command: number, flags: number, error: unknown): void {
    const { channel, isClosed, onBug } = this.#options;
    if (!(error instanceof VfioError)) onBug(commandName(command), error);
    if (isClosed() || (flags & HeaderFlags.NO_REPLY) !== 0) return;
    const { writer } = channel;
    let reason = this.reasonBytes > 0 && error instanceof VfioError ? encodeReason(error) : EMPTY;
    if (reason.length > this.reasonBytes) reason = EMPTY;
    const size = HEADER_BYTES + reason.length;
    const at = writer.begin(size);
    putHeader(writer.view, at, id, command, size, HeaderFlags.REPLY | HeaderFlags.ERROR, Errno[errnoOf(error)]);
    writer.bytes.set(reason, at + HEADER_BYTES);
    writer.commit(size);
  }
}

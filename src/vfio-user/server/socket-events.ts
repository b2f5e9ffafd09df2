/** The messages of one of a session's sockets as events, and what they lead to. */
import { Header, HeaderFlags } from '../../abi/vfio-user.ts';
import type { FrameWriter, WriterWatch } from '../frame-writer.ts';
import type { FrameReader } from '../frames.ts';
import type { MessageEvents } from '../message-events.ts';

export class SocketEvents implements WriterWatch {
  readonly #messages: MessageEvents;
  readonly #twin: boolean;
  /** The event of the command of the server that a reply answers, by id; 0: none is known. */
  readonly #eventOf: (id: number) => number;
  /** `seq` of the message that was sent last. */
  last = 0;

  constructor(messages: MessageEvents, twin: boolean, eventOf: (id: number) => number) {
    this.#messages = messages;
    this.#twin = twin;
    this.#eventOf = eventOf;
  }

  get on(): boolean {
    return this.#messages.on;
  }

  get cause(): number {
    return this.#messages.source.cause;
  }

  set cause(seq: number) {
    this.#messages.source.cause = seq;
  }

  /**
   * Emits the current message of `reader`, and calls `answer`: all that the answer emits has the
   * message as its cause. A reply has the command that it answers as its own.
   */
  received(reader: FrameReader, answer: () => void): void {
    const { bytes, view, start, size, fdCount } = reader;
    const before = this.cause;
    const isReply = (Header.flags.get(view, start) & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY;
    if (isReply) this.cause = this.#eventOf(Header.id.get(view, start));
    this.cause = this.#messages.emit(true, this.#twin, bytes, view, start, size, fdCount);
    try {
      answer();
    } finally {
      this.cause = before;
    }
  }

  /** A reply has what it answers as its cause, which is set then. */
  committed({ bytes, view }: FrameWriter, at: number, size: number, fds: number): void {
    this.last = this.#messages.emit(false, this.#twin, bytes, view, at, size, fds);
  }
}

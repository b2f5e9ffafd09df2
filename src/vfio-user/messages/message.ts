/**
 * A message of the protocol as a row of the table (table.ts): its number, its command's size and
 * descriptors, how a server answers it, and how it reads. Each file of this folder holds the rows
 * of a subject, with layout, encoders and decoders.
 *
 * Client and server never import each other. The part of a row that needs a served device is a
 * function on `AnswerContext`, which server/attachment.ts provides.
 */
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { FrameWriter } from '../frame-writer.ts';
import type { FrameReader } from '../frames.ts';
import type { Answer, AnswerContext, InPlace } from './answer-context.ts';
import { NOTHING } from './payload.ts';
import type { Ref, Shape } from './shape.ts';

/** A reply that is a header alone. */
export const EMPTY_ANSWER: Answer = { payload: NOTHING };

/** A payload where it lies: `size` bytes from `at` on. */
export interface Payload {
  readonly view: DataView;
  readonly at: number;
  readonly size: number;
}

/** Whether a byte of a region is plain memory, which the device does not see accessed. */
export type IsMemory = (region: number, offset: number) => boolean;

/** For `shown`: no data follows the structures of this message, however long they are. */
export const showsAll = ({ size }: Payload): number => size;

/** How long the payload of a message to the server may be (message-sizes.ts). */
export interface PayloadSize {
  /** Bytes of its structures. */
  readonly fixed: number;
  /** Bytes after them at most; 'negotiated': as many as the server agreed to. Default: 0. */
  readonly data?: number | 'negotiated';
  /** The payload begins with argsz, and may be as long as argsz says. Default: false. */
  readonly argsz?: boolean;
  /** After the structures follow as many pieces of `unit` bytes as this field says. */
  readonly counted?: { readonly ref: Ref; readonly unit: number };
}

export interface Message<Name extends string = string, Num extends number = number, Request = unknown> {
  readonly name: Name;
  readonly number: Num;
  /** Whose command it is. */
  readonly from: 'client' | 'server';
  /** Descriptors that the command may bring at most. Default: 0. */
  readonly fds?: number;
  readonly size: PayloadSize;
  /**
   * The command, checked as far as that needs no device.
   *
   * @param maxBytes the most that the reply's payload may take
   * @throws VfioError the errno to answer
   */
  decode?(payload: Uint8Array, maxBytes: number): Request;
  /**
   * Does a client's command.
   *
   * @param fds those that came along; the caller closes those that are still open afterwards
   * @throws VfioError the errno to answer
   */
  answer?(server: AnswerContext, request: Request, fds: readonly OwnedFd[]): Answer;
  /**
   * In place of `decode` and `answer`, for register accesses: does the current message of `reader`,
   * and builds the reply at `writer.begin()`. Allocates nothing.
   *
   * @returns the reply's size   @throws VfioError the errno to answer
   */
  inPlace?(regions: InPlace, reader: FrameReader, writer: FrameWriter): number;
  /** A client's command. Default: the client writes it in place, as client/region-io.ts does. */
  encode?(request: Request): Uint8Array<ArrayBuffer>;
  /**
   * The reply to it, for a client.
   * @throws VfioError EINVAL: no server answers so
   */
  decodeReply?(payload: Uint8Array): unknown;
  /** How it reads: in `vfio trace`, and in Wireshark. */
  readonly command: Shape;
  readonly reply: Shape;
  /**
   * Bytes of a payload that events hold also for readers without data; the rest is data. Register
   * values belong to them, bytes of memory do not. Default: its structures, `size.fixed`.
   */
  shown?(payload: Payload, isReply: boolean, isMemory: IsMemory): number;
  /**
   * A payload with asterisks in place of its secrets; the same object when it has none. Default: it
   * has none.
   */
  masked?(payload: Uint8Array): Uint8Array;
}

/** A row whose command a client sends with `connection.ask`. */
export interface Question<Request, Reply, Name extends string = string, Num extends number = number> extends Message<Name, Num, Request> {
  encode(request: Request): Uint8Array<ArrayBuffer>;
  decodeReply(payload: Uint8Array): Reply;
}

/** A row, with its types. */
export function message<const Name extends string, const Num extends number, Request, Reply>(
  row: Question<Request, Reply, Name, Num>,
): Question<Request, Reply, Name, Num>;
export function message<const Name extends string, const Num extends number, Request = unknown>(
  row: Message<Name, Num, Request>,
): Message<Name, Num, Request>;
export function message<const Name extends string, const Num extends number, Request = unknown>(
  row: Message<Name, Num, Request>,
): Message<Name, Num, Request> {
  return row;
}

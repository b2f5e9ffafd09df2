/**
 * The conversation between a thread and the one that started it. Either side asks, and the other
 * answers, with progress on the way; or it sends a notice, to which there is no answer.
 */
import type { ErrnoName } from '../../base/errno.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import { isNodeSystemError, SystemError } from '../../sys/system-error.ts';

/** An error as it travels. */
interface PlainError {
  /** Null: it is no VfioError. */
  readonly code: ErrnoName | null;
  /** The operating system refused. */
  readonly system?: boolean;
  readonly message: string;
  /** Where a fault of ours happened. */
  readonly stack?: string | undefined;
  readonly fix?: string | undefined;
  readonly culprits?: VfioError['culprits'];
}

type Message =
  | { readonly tell: string; readonly value: unknown }
  | { readonly ask: string; readonly id: number; readonly value: unknown }
  | { readonly progress: string; readonly id: number }
  | { readonly answer: unknown; readonly id: number }
  | { readonly failed: PlainError; readonly id: number };

/** The acts of one side for the other, by the word that the other sends. */
export interface Handlers {
  readonly asked: Readonly<Record<string, (value: never, progress: (text: string) => Promise<void>) => unknown>>;
  readonly told: Readonly<Record<string, (value: never) => void>>;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly progress: (text: string) => void;
}

/** A MessagePort, or a Worker. */
interface Port {
  postMessage(value: unknown): void;
  on(event: 'message', listener: (value: Message) => void): unknown;
}

export class ThreadPort {
  readonly #port: Port;
  readonly #handlers: Handlers;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #ended: Error | null = null;

  constructor(port: Port, handlers: Handlers) {
    this.#port = port;
    this.#handlers = handlers;
    port.on('message', (message) => this.#receive(message));
  }

  tell(word: string, value: unknown): void {
    if (this.#ended === null) this.#port.postMessage({ tell: word, value } satisfies Message);
  }

  /** @throws VfioError (rejects) the other side's error, or the reason of its end */
  ask<T>(word: string, value: unknown, progress: (text: string) => void = () => {}): Promise<T> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    const id = ++this.#lastId;
    return new Promise<unknown>((resolve, reject) => {
      this.#port.postMessage({ ask: word, id, value } satisfies Message);
      this.#waiting.set(id, { resolve, reject, progress });
    }) as Promise<T>;
  }

  /** The other side is gone: all that waits for it fails with `why`. */
  end(why: Error): void {
    this.#ended ??= why;
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
  }

  #receive(message: Message): void {
    if ('tell' in message) this.#handlers.told[message.tell]?.(message.value as never);
    else if ('ask' in message) void this.#answer(message.ask, message.id, message.value);
    else {
      const waiting = this.#waiting.get(message.id);
      if ('progress' in message) {
        waiting?.progress(message.progress);
        return;
      }
      this.#waiting.delete(message.id);
      if ('failed' in message) waiting?.reject(fromPlain(message.failed));
      else waiting?.resolve(message.answer);
    }
  }

  async #answer(word: string, id: number, value: unknown): Promise<void> {
    const progress = async (text: string): Promise<void> => this.#port.postMessage({ progress: text, id } satisfies Message);
    try {
      const answer = await this.#handlers.asked[word]!(value as never, progress);
      this.#port.postMessage({ answer, id } satisfies Message);
    } catch (error) {
      this.#port.postMessage({ failed: toPlain(error), id } satisfies Message);
    }
  }
}

/** `error` in a form that a thread can send to another one. */
export function toPlain(error: unknown): PlainError {
  if (!(error instanceof VfioError)) {
    return error instanceof Error ? { code: null, message: error.message, stack: textOf(error) } : { code: null, message: textOf(error) };
  }
  const { code, message, fix, culprits } = error;
  return { code, message, fix, culprits, system: error instanceof SystemError || isNodeSystemError(error.cause) };
}

/** The error that the other thread had. */
export function fromPlain({ code, message, stack, fix, culprits = [], system = false }: PlainError): Error {
  if (code === null) return Object.assign(new Error(message), stack === undefined ? {} : { stack });
  const [first, ...details] = message.split('\n');
  const options = { details: details.map((line) => line.trim()), culprits, ...(fix === undefined ? {} : { fix }) };
  const told = details.length === 0 ? first! : first!.replace(/:$/, '');
  return system ? new SystemError(code, told, options) : new VfioError(code, told, options);
}

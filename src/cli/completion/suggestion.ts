/** A question of completion, and its answer. */

/** Words before the one that is completed. */
export interface Typed {
  /** By the option's long name. */
  readonly options: ReadonlyMap<string, string>;
  readonly words: readonly string[];
}

export interface Suggestion {
  readonly value: string;
  readonly help?: string;
}

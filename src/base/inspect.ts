/**
 * What `console.log` of an object shows (util.inspect.custom of Node, by its registered name, so that every room can have it): one line, instead of
 * all that it holds.
 */
export const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

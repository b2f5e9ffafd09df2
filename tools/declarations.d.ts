/** Declarations of the package in `folder`. */
export declare function declarations(folder: string): void;

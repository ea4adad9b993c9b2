//! The `natseq` program.

fn main() -> std::process::ExitCode {
    natseq::cli::main()
}

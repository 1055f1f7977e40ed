using System.CommandLine;
using Sandbox.Cli.Terminal;
using Sandbox.Storage.Cluster;

namespace Sandbox.Cli.Commands;

/// <summary>The database of a cluster.</summary>
internal static class DatabaseCommand
{
    public static Command Create(Say say)
    {
        var connection = new Option<string?>("--connection") { Description = "PostgreSQL connection; default: $SANDBOX_POSTGRES, which keeps a password out of the process list", HelpName = "CONNECTION" };
        var migrate = new DetailedCommand("migrate", "Bring the PostgreSQL database of a cluster to this version. Safe to repeat, and while servers run.", """
              SANDBOX_POSTGRES='Host=db;Database=sandbox;Username=sandbox' sandbox db migrate
            """)
        { connection };
        migrate.SetAction(async (parsed, cancellationToken) =>
        {
            var text = parsed.GetValue(connection) ?? Environment.GetEnvironmentVariable("SANDBOX_POSTGRES");
            if (string.IsNullOrEmpty(text))
            {
                throw new UserException("which database? Give --connection or set SANDBOX_POSTGRES", ExitCodes.Usage);
            }

            var done = await DatabaseMigrator.MigrateAsync(text, new Progress(say), cancellationToken);
            say.Note(done.Count == 0 ? "the database is up to date" : $"{done.Count} migration(s) applied");
            return ExitCodes.Success;
        });
        return new Command("db", "Look after the database of a cluster.") { migrate };
    }

    private sealed class Progress(Say say) : IProgress<string>
    {
        public void Report(string value) => say.Note(value);
    }
}

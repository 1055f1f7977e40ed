using Microsoft.Extensions.Logging;

namespace Sandbox.Isolation.Guest;

public sealed partial class GuestConnection
{
    private static partial class Log
    {
        [LoggerMessage(2100, LogLevel.Debug, "Guest {Name} answered after {Attempts} hello(s): agent {AgentVersion}, boot {BootId}, {Executions} execution(s) running.")]
        public static partial void Connected(ILogger logger, string name, int attempts, string agentVersion, string bootId, int executions);

        [LoggerMessage(2101, LogLevel.Information, "The channel to guest {Name} was cut: {Reason}. {Requests} request(s) under way failed; {Executions} execution(s) wait to be rejoined.")]
        public static partial void Cut(ILogger logger, string name, string reason, int requests, int executions);

        [LoggerMessage(2102, LogLevel.Information, "The channel to guest {Name} was joined again; {Executions} execution(s) go on, {Lost} lost.")]
        public static partial void Rejoined(ILogger logger, string name, int executions, int lost);

        [LoggerMessage(2103, LogLevel.Debug, "The channel to guest {Name} is closed: {Reason}.")]
        public static partial void Closed(ILogger logger, string name, string reason);

        [LoggerMessage(2104, LogLevel.Warning, "Guest {Name} broke the protocol, its channel is closed: {Reason}")]
        public static partial void Violation(ILogger logger, string name, string reason);

        [LoggerMessage(2105, LogLevel.Debug, "Guest {Name} answered abandoned stream {Stream} ({Operation}); the answer was dropped.")]
        public static partial void LateAnswer(ILogger logger, string name, ulong stream, string operation);

        [LoggerMessage(2106, LogLevel.Information, "Guest {Name} runs an execution on stream {Stream} that nobody waits for any more; it is killed.")]
        public static partial void Orphan(ILogger logger, string name, ulong stream);

        [LoggerMessage(2108, LogLevel.Information, "Guest {Name} did not answer within {Seconds} s before its machine was stopped; it will resynchronise when it is restored.")]
        public static partial void NotQuiet(ILogger logger, string name, double seconds);

        [LoggerMessage(2107, LogLevel.Error, "The channel to guest {Name} is closed because handling a frame failed in the host.")]
        public static partial void HostFault(ILogger logger, string name, Exception exception);
    }
}

using Sandbox.Abstractions;

namespace Sandbox.E2b.Data;

/// <summary>
/// Tells a sandbox that is not there from something in it that is not: E2B's SDKs take 502 and <c>unavailable</c> for the former (it timed out, was killed, is paused) and 404 for the latter.
/// </summary>
internal static class SandboxGone
{
    /// <summary>How the guest begins to say that there is no such user, which for E2B is a question of credentials.</summary>
    private const string UnknownUser = "There is no user '";

    private static readonly object Key = new();

    /// <summary>Whether the error of a request is that its sandbox does not run.</summary>
    public static bool Is(Microsoft.AspNetCore.Http.HttpContext context) => context.Items.ContainsKey(Key);

    /// <summary>Serves a call by what is found for it, and explains its error.</summary>
    public static async Task ServeAsync(DataCall call, Func<DataCall, Task?> find)
    {
        call.Context.Features.Set<Gateway.IErrorFormat>(Envd.EnvdErrors.Rest);
        try
        {
            await (find(call) ?? throw SandboxException.NotFound($"There is nothing at {call.Context.Request.Path} of port {call.Port}."));
        }
        catch (SandboxException e)
        {
            var explained = await ExplainAsync(call, e);
            if (ReferenceEquals(explained, e))
            {
                throw;
            }

            throw explained;
        }
    }

    /// <summary>The error as the caller should see it.</summary>
    public static async Task<SandboxException> ExplainAsync(DataCall call, SandboxException error)
    {
        if (error.Code == SandboxErrorCode.NotFound && error.Message.StartsWith(UnknownUser, StringComparison.Ordinal))
        {
            return new SandboxException(SandboxErrorCode.Unauthenticated, error.Message);
        }

        if (error.Code is not (SandboxErrorCode.NotFound or SandboxErrorCode.Conflict))
        {
            return error;
        }

        string state;
        try
        {
            var info = await call.Session<ISessionGrain>().GetAsync();
            if (info.State is SessionState.Running or SessionState.Creating or SessionState.Resuming)
            {
                return error;
            }

            state = info.State == SessionState.Paused ? "is paused" : "has ended" + (info.Cause is { } cause ? ": " + cause : "");
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            state = "was not found";
        }
        catch (Exception e) when (e is SandboxException or TimeoutException or Orleans.Runtime.OrleansException)
        {
            return error;
        }

        call.Context.Items[Key] = true;
        return SandboxException.Unavailable($"The sandbox {E2bIds.ToSandbox(call.SessionId)} {state}");
    }
}

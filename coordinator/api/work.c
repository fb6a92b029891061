/* coordinator/api/work.c - see work.h. */
#include "coordinator/api/work.h"

#include "base/alloc.h"

static void run(phx_text_job *job);
static void done(phx_text_job *job);
static void end(phx_api_work *work);
static void tell_waiting(phx_api *api);
static void on_closed(void *user, phx_http_closed why);

/* NULL: the loop. How long a checkpoint's template takes is not for the size of a body to say. */
static phx_text_thread *thread_for(const phx_api *api, const phx_api_work *work, size_t n_bytes)
{
    if (n_bytes > PHX_API_BODY_DIRECT_MAX)
        return api->text_thread;
    return work->renders && api->text->template ? api->chat_thread : NULL;
}

bool phx_api_work_begin(phx_api *api, phx_api_work *work, size_t n_bytes)
{
    phx_error err = {0};
    work->api = api;
    work->text = *api->text;
    work->thread = thread_for(api, work, n_bytes);
    if (!work->thread) {
        run(&work->job);
        work->finish(work);
        return false;
    }
    work->job = (phx_text_job){.run = run, .done = done, .n_bytes = n_bytes};
    if (phx_text_thread_submit(work->thread, &work->job, &err) != PHX_OK) {
        phx_api_fault_of(&err, &work->fault);
        work->finish(work);
        return false;
    }
    api->n_bodies++;
    return true;
}

void phx_api_work_begin_http(phx_api *api, phx_api_work *work, const phx_http_request *request,
                             phx_http_reply *reply)
{
    const phx_bytes body = request->body;
    work->reply = reply;
    work->body = body;
    if (body.n && thread_for(api, work, body.n)) {
        work->body_copy = phx_alloc(body.n, 1);
        if (!work->body_copy) {
            work->api = api;
            phx_api_fault_of(&(phx_error){.code = PHX_ERR_NOMEM}, &work->fault);
            work->finish(work);
            return;
        }
        memcpy(work->body_copy, body.ptr, body.n);
        work->body.ptr = work->body_copy;
    }
    if (phx_api_work_begin(api, work, body.n))
        phx_http_reply_on_closed(reply, on_closed, work);
}

void phx_api_work_leave(phx_api_work *work)
{
    if (phx_text_thread_cancel(work->thread, &work->job))
        end(work);
}

void phx_api_work_free(phx_api_work *work)
{
    phx_free(work->body_copy);
    phx_free(work);
}

static void run(phx_text_job *job)
{
    phx_api_work *work = (phx_api_work *)job;
    work->ok = work->make(work, &work->fault);
}

static void done(phx_text_job *job)
{
    phx_api_work *work = (phx_api_work *)job;
    if (work->reply)
        phx_http_reply_on_closed(work->reply, NULL, NULL);
    end(work);
}

/* Of a text that the thread had. */
static void end(phx_api_work *work)
{
    phx_api *api = work->api;
    work->finish(work);
    api->n_bodies--;
    tell_waiting(api);
}

static void tell_waiting(phx_api *api)
{
    const phx_loop_call call = api->bodies_done;
    if (api->n_bodies > 0 || !call.fn)
        return;
    api->bodies_done = (phx_loop_call){NULL, NULL};
    call.fn(call.user);
}

void phx_api_await_bodies(phx_api *api, phx_loop_call call)
{
    api->bodies_done = call;
    phx_text_thread_hurry(api->chat_thread); /* they would be answered that the server drains */
    phx_text_thread_hurry(api->text_thread);
    tell_waiting(api);
}

static void on_closed(void *user, phx_http_closed why)
{
    phx_api_work *work = user;
    phx_http_reply_abort(work->reply);
    work->reply = NULL;
    work->why = why;
    phx_api_work_leave(work);
}
